"""Token ids are the same in the graph, in Python, after loading, and in a served SavedModel."""

import functools
import io
import json
import random
import re
import subprocess
import sys

import keras
import pytest
import sentencepiece
import tensorflow as tf

from tests.text import fuzz
from tfzoo import text
from tfzoo.errors import ArtifactError, DataError, UsageError

SENTENCES = [
    "A dog runs over the green field and looks around.",
    "Zwei Hunde laufen über die grüne Wiese; ooo, wie schön!",
    "The quick brown fox jumps over the lazy dog 0123456789.",
    "机器翻译很有趣，我们试一试。",
    "Où est la gare ? Là-bas, à côté du café.",
] * 4


@pytest.fixture(scope="module")
def tokenizers():
    return {
        "sentencepiece": text.SentencePieceTokenizer.train(SENTENCES, 160),
        "characters": text.SymbolTokenizer.train(SENTENCES, separator=""),
        "symbols": text.SymbolTokenizer.train(SENTENCES, separator=" "),
        "word_piece": text.WordPieceTokenizer.train(SENTENCES, 200, lowercase=False),
    }


@pytest.fixture(scope="module", params=["sentencepiece", "characters", "symbols", "word_piece"])
def tokenizer(request, tokenizers):
    return tokenizers[request.param]


def test_special_ids_come_first(tokenizer):
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.start_id, tokenizer.end_id) == (0, 1, 2, 3)
    assert min(tokenizer.encode("dog ø")) >= 1


def test_encode_equals_tokenize_on_any_text(tokenizer):
    strings = fuzz.strings(3000, seed=1) + SENTENCES + ["</s> <s> <pad> <unk>"]
    ids = tokenizer.tokenize(tf.constant(strings))
    assert ids.dtype == tf.int32
    assert ids.to_list() == [tokenizer.encode(string) for string in strings]


def test_encode_equals_tokenize_where_segmentations_tie():
    # "ooo" is "oo"+"o" or "o"+"oo" with the same score; without rounded scores a fifth of these strings differ.
    generator = random.Random(0)

    def runs(letters, count):
        return "".join(letter * generator.randint(1, 4) for letter in generator.choices(letters, k=count))

    tokenizer = text.SentencePieceTokenizer.train([runs("abcdo ", 20) for _ in range(200)], 60)
    strings = [runs("abcdo ", 12) for _ in range(500)]
    assert tokenizer.tokenize(tf.constant(strings)).to_list() == [tokenizer.encode(string) for string in strings]


def test_decode_equals_detokenize_on_any_ids(tokenizer):
    size = tokenizer.vocabulary_size
    generator = random.Random(2)
    rows = [[generator.randrange(-2, size + 3) for _ in range(generator.randrange(9))] for _ in range(2000)]
    texts = tokenizer.detokenize(tf.ragged.constant(rows, dtype=tf.int32))
    assert [one.decode() for one in texts.numpy()] == [tokenizer.decode(row) for row in rows]


@pytest.mark.parametrize("sentence", SENTENCES[:3])
def test_text_survives_the_round_trip(tokenizer, sentence):
    ids = tokenizer.encode(sentence)
    if isinstance(tokenizer, text.WordPieceTokenizer):
        sentence = re.sub(r"([.,;!])", r" \1", sentence)  # punctuation is a word
    assert tokenizer.decode(ids) == sentence
    padded = tf.constant([[2, *ids, 3, 0, 0]])
    assert tokenizer.detokenize(padded).numpy()[0].decode() == sentence


def test_text_cannot_spell_a_special_token(tokenizer):
    assert not {0, 2, 3} & set(tokenizer.encode("</s> <pad> <s> [SEP] [PAD] [CLS]"))


def test_bytes_that_are_not_utf8_are_read_as_unknown_or_dropped(tokenizer):
    ids = tokenizer.tokenize(tf.constant([b"dog \xff\xfe \xc3", b"dog"]))
    assert (1 in ids[0].numpy()) != isinstance(tokenizer, text.WordPieceTokenizer)
    assert ids[1].numpy().tolist() == tokenizer.encode("dog")


def test_setting_a_seed_leaves_it_alive(tokenizer):
    before = tokenizer.tokenize(tf.constant(["one"])).to_list()
    keras.utils.set_random_seed(1)  # throws away TensorFlow's eager kernels
    assert tokenizer.tokenize(tf.constant(["one"])).to_list() == before
    assert tokenizer.detokenize(tf.ragged.constant(before)).numpy() == [tokenizer.decode(before[0]).encode()]


def test_a_saved_tokenizer_loads_equal_and_without_tensorflow(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    strings = fuzz.strings(50, seed=3)
    code = (
        "import json, sys\n"
        "from tfzoo import text\n"
        f"tokenizer = text.load({str(tmp_path)!r})\n"
        "ids = [tokenizer.encode(one) for one in json.load(sys.stdin)]\n"
        "assert 'tensorflow' not in sys.modules\n"
        "json.dump([ids, [tokenizer.decode(one) for one in ids]], sys.stdout)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(strings), capture_output=True, text=True, check=True
    )
    ids, texts = json.loads(answer.stdout)
    assert ids == [tokenizer.encode(one) for one in strings]
    assert texts == [tokenizer.decode(one) for one in ids]
    assert text.load(tmp_path).assets() == tokenizer.assets()


def _serve(tokenizer, source):
    ids = tokenizer.tokenize(source)
    return {"token_ids": ids.to_tensor(), "outputs": tokenizer.detokenize(ids)}


def test_a_saved_model_serves_it_in_a_process_without_tfzoo(tokenizers, tmp_path):
    strings = fuzz.strings(40, seed=4)
    archive = keras.export.ExportArchive()
    for name, tokenizer in tokenizers.items():
        archive.track(tokenizer.trackable())
        signature = [tf.TensorSpec((None,), tf.string, name="source")]
        archive.add_endpoint(name, functools.partial(_serve, tokenizer), input_signature=signature)
    archive.write_out(tmp_path / "1", verbose=False)

    code = (
        "import json, sys\n"
        "import tensorflow as tf, tensorflow_text\n"
        f"model = tf.saved_model.load({str(tmp_path / '1')!r})\n"
        "source = tf.constant(json.load(sys.stdin))\n"
        "answers = {name: one(source=source) for name, one in model.signatures.items()}\n"
        "assert 'tfzoo' not in sys.modules\n"
        "json.dump({name: [one['token_ids'].numpy().tolist(), [text.decode() for text in one['outputs'].numpy()]]\n"
        "           for name, one in answers.items()}, sys.stdout)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(strings), capture_output=True, text=True, check=True
    )
    served = json.loads(answer.stdout)
    for name, tokenizer in tokenizers.items():
        token_ids, outputs = served[name]
        expected = [tokenizer.encode(one) for one in strings]
        assert [row[: len(ids)] for row, ids in zip(token_ids, expected, strict=True)] == expected
        assert outputs == [tokenizer.decode(ids) for ids in expected]


def test_symbols_are_ranked_by_frequency_then_code_point():
    tokenizer = text.SymbolTokenizer.train(["B AH1 N", "AH1"], separator=" ")
    assert tokenizer.encode("N AH1 B") == [6, 4, 5]
    assert tokenizer.vocabulary_size == 7


def test_an_unknown_symbol_reads_as_a_replacement():
    words = text.SymbolTokenizer(["B", "AH1"], " ")
    assert words.encode("B ZH AH1") == [4, 1, 5]
    assert words.decode([4, 1, 5, 3]) == "B ⁇ AH1"
    letters = text.SymbolTokenizer(["a", " "], "")
    assert letters.encode("a ß") == [4, 5, 1]
    assert letters.decode([4, 5, 1]) == "a ⁇"


def test_symbols_keep_the_most_frequent_when_the_size_is_bounded():
    tokenizer = text.SymbolTokenizer.train(["abbccc"], separator="", vocabulary_size=6)
    assert tokenizer.encode("abc") == [1, 5, 4]


def test_sentencepiece_shrinks_when_the_text_is_small():
    tokenizer = text.SentencePieceTokenizer.train(["hello world"] * 3, 8000)
    assert tokenizer.vocabulary_size < 40
    assert tokenizer.decode(tokenizer.encode("hello world")) == "hello world"


def test_training_twice_gives_the_same_files():
    first, second = (text.SentencePieceTokenizer.train(SENTENCES, 120).assets() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            lambda: text.SentencePieceTokenizer.train(["hello world"], 6),
            "`vocabulary_size` must be at least 12 to spell this text; received vocabulary_size=6. "
            "Raise it, or set `character_coverage` below 1.0.",
        ),
        (lambda: text.SentencePieceTokenizer.train([], 50), "`sentences` holds no text"),
        (lambda: text.SentencePieceTokenizer.train(["", " "], 50), "`sentences` holds no text"),
        (lambda: text.SentencePieceTokenizer.train(["a"], 4), "`vocabulary_size` must be above 4"),
        (lambda: text.SymbolTokenizer.train(["a"], separator="", vocabulary_size=4), "received vocabulary_size=4"),
        (lambda: text.SymbolTokenizer.train(["", " "], separator=" "), "`sentences` holds no symbol"),
        (lambda: text.SymbolTokenizer(["a"], "|"), "received separator='|'"),
        (lambda: text.SymbolTokenizer(["a", "b", "a"], " "), "received 'a' 2 times"),
        (lambda: text.SymbolTokenizer(["a b"], " "), "`symbols` holds 'a b'"),
        (lambda: text.SymbolTokenizer([""], ""), "`symbols` holds ''"),
        (lambda: text.SymbolTokenizer(["</s>"], " "), "`symbols` holds '</s>'"),
        (lambda: text.BytePairTokenizer.train(["a"], 256), "`vocabulary_size` must be above 256"),
        (lambda: text.BytePairTokenizer.train([], 300), "`sentences` holds no text"),
        (lambda: text.BytePairTokenizer.train(["", ""], 300), "`sentences` holds no text"),
        (lambda: text.WordPieceTokenizer.train(["abc"], 9), "`vocabulary_size` must be at least 10 to spell this text"),
        (lambda: text.WordPieceTokenizer.train([], 300), "`sentences` holds no text"),
        (lambda: text.WordPieceTokenizer.train(["", " \0"], 300), "`sentences` holds no text"),
    ],
)
def test_wrong_use_is_one_clear_line(action, message):
    with pytest.raises(UsageError) as error:
        action()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "vocabulary_size"),
    [(text.SentencePieceTokenizer, 50), (text.BytePairTokenizer, 300), (text.WordPieceTokenizer, 300)],
)
def test_an_error_in_the_text_stays_that_error(kind, vocabulary_size):
    def sentences():
        yield "hello"
        raise DataError("train.tsv:2: broken")

    with pytest.raises(DataError, match=r"train\.tsv:2: broken"):
        kind.train(sentences(), vocabulary_size)


def test_a_model_that_is_not_one_is_refused():
    with pytest.raises(ArtifactError, match="4 bytes that do not parse"):
        text.SentencePieceTokenizer(b"junk")


def test_a_model_with_other_special_ids_is_refused():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=160, hard_vocab_limit=False, minloglevel=2
    )
    with pytest.raises(ArtifactError, match=r"received pad, unk, bos, eos = \(-1, 0, 1, 2\)"):
        text.SentencePieceTokenizer(model.getvalue())


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 0}', '{"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3, "a": 9}'])
def test_a_damaged_vocabulary_is_named(tmp_path, content):
    text.SymbolTokenizer(["a"], "").save(tmp_path)
    (tmp_path / "vocab.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"vocab\.json or tokenizer_config\.json is damaged"):
        text.load(tmp_path)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="holds no tokenizer"):
        text.load(tmp_path)
