"""The page's JavaScript tokenizers give the ids and the text of ours."""

import io
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import sentencepiece

from tests.text import fuzz
from tfzoo import text
from tfzoo.demo.server import PAGE

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is missing; run tests/setup")

SENTENCES = [
    "A dog runs over the green field and looks around.",
    "Zwei Hunde laufen über die grüne Wiese; ooo, wie schön!",
    "The quick brown fox jumps over the lazy dog 0123456789.",
    "机器翻译很有趣，我们试一试。",
    "Où est la gare ? Là-bas, à côté du café. ｶﾞ각 ＦＵＬＬ ﬁn Ⅳ",
] * 4


def tokenize(tokenizer, directory, texts=(), ids=(), labelled=()):
    """What the page makes of texts, of rows of ids and of single ids; what it says when it refuses."""
    pair = text.pair(tokenizer)
    pair.save(directory)
    return in_node(directory, list(pair.assets()), texts=texts, ids=ids, labelled=labelled)


def in_node(directory, files, *, texts, ids, labelled):
    job = {"directory": str(directory), "files": files, "texts": texts, "ids": ids, "labelled": labelled}
    done = subprocess.run(
        [NODE, Path(__file__).with_name("tokenize.mjs"), PAGE / "tokenizer.mjs"],
        input=json.dumps(job).encode(),  # escaped: half a surrogate pair has no UTF-8
        capture_output=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.decode()


def random_ids(tokenizer, *, seed):
    generator = random.Random(seed)
    size = tokenizer.vocabulary_size
    return [[generator.randrange(-1, size + 1) for _ in range(generator.randrange(12))] for _ in range(400)]


def sentencepiece_tokenizer(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
        **{"vocab_size": 180, **options},
    )
    return text.SentencePieceTokenizer(model.getvalue())


TOKENIZERS = {
    "characters": lambda: text.SymbolTokenizer.train(SENTENCES, separator=""),
    "symbols": lambda: text.SymbolTokenizer.train([*SENTENCES, "2 1 __proto__ constructor"], separator=" "),
    "byte_pair": lambda: text.BytePairTokenizer.train([*SENTENCES, "It's they've I'll don't 12 34  \n\n "], 400),
    "word_piece": lambda: text.WordPieceTokenizer.train(SENTENCES, 200),
    "cased_word_piece": lambda: text.WordPieceTokenizer.train(SENTENCES, 200, lowercase=False),
    "sentencepiece": lambda: text.SentencePieceTokenizer.train(SENTENCES, 180),
    "identity": lambda: sentencepiece_tokenizer(normalization_rule_name="identity"),
    "nfkc_cf": lambda: sentencepiece_tokenizer(normalization_rule_name="nmt_nfkc_cf"),
    "no_prefix": lambda: sentencepiece_tokenizer(add_dummy_prefix=False),
    "all_spaces": lambda: sentencepiece_tokenizer(remove_extra_whitespaces=False),
    "all_spaces_no_prefix": lambda: sentencepiece_tokenizer(remove_extra_whitespaces=False, add_dummy_prefix=False),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_and_text_equal_ours_whatever_the_text(name, tmp_path):
    tokenizer = TOKENIZERS[name]()
    texts = fuzz.strings(3000, seed=11) + SENTENCES + ["</s> <s> <pad> <unk>", "constructor __proto__ 1 2"]
    texts += [" ".join(SENTENCES) * 5, "o" * 3000, "it's  they'VE\u0085\ufeff \n x<|endoftext|>\r\n\u3000"]
    ids = random_ids(tokenizer, seed=12)
    found = tokenize(tokenizer, tmp_path, texts, ids)
    assert isinstance(found, dict), found
    for one, row in zip(texts, found["ids"], strict=True):
        assert row == tokenizer.encode(one), ascii(one)
    for row, one in zip(ids, found["texts"], strict=True):
        assert one == tokenizer.decode(row), row


def test_a_word_is_joined_by_rank_and_labelled_by_its_text(tmp_path):
    """A lone surrogate is U+FFFD, whose bytes make no text one by one; merges need not make a piece only once."""
    tokenizer = text.BytePairTokenizer.train([" ab ab abab aab abcab\n", "é é"] * 3, 265)
    texts = ["a\ud83db", "ababab aab", "abcababcabcab" * 40, "\udc00\ud800"]
    found = tokenize(tokenizer, tmp_path, texts, [], [tokenizer.encode(" ")[0], 188, 160, tokenizer.end_id, 65])
    assert found["ids"] == [tokenizer.encode(one) for one in texts]
    assert found["labels"] == ["▁", "\\x00", "\\xe4", "end", "b"]


def test_each_side_has_its_own_vocabulary(tmp_path):
    pair = (text.SymbolTokenizer("ab ", ""), text.SymbolTokenizer(["EY", "B"], " "))
    found = tokenize(pair, tmp_path, ["ba b"], [[2, 4, 1, 5, 3, 0]], [*range(6)])
    assert found == {
        "ids": [[5, 4, 6, 5]],
        "offsets": [None],
        "texts": ["EY ⁇ B"],
        "labels": ["padding", "unknown", "start", "end", "EY", "B"],
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "bpe"}, "does not read SentencePiece models of another type than unigram"),
        ({"byte_fallback": True, "vocab_size": 420}, "that fall back to bytes"),
        ({"treat_whitespace_as_suffix": True}, "with white space behind the word"),
        ({"user_defined_symbols": ["@@"]}, "with user-defined pieces"),
        ({"unk_surface": "?"}, "with a text of their own for unknown pieces"),
        ({"denormalization_rule_tsv": "RULES"}, "with a denormalizer"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_computed_exactly_is_refused(options, message, tmp_path):
    rules = tmp_path / "rules.tsv"
    rules.write_text("61\t62\n")
    options = {name: str(rules) if value == "RULES" else value for name, value in options.items()}
    assert message in tokenize(sentencepiece_tokenizer(**options), tmp_path / "tokenizer", ["a"])


def test_a_damaged_model_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\x0a\xff")
    found = in_node(tmp_path, ["spiece.model"], texts=[], ids=[], labelled=[])
    assert "spiece.model is damaged" in found


@pytest.mark.parametrize("files", [["other.txt"], ["vocab.json"]], ids=" ".join)
def test_another_kind_of_tokenizer_is_refused(tmp_path, files):
    (tmp_path / "tokenizer_config.json").write_text("{}")
    found = in_node(tmp_path, [*files, "tokenizer_config.json"], texts=[], ids=[], labelled=[])
    assert "this artifact has another kind" in found
