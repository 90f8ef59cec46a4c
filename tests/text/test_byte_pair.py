"""GPT-2's ids: those of `tokenizers`, in Python, in a graph, from files, and from a served SavedModel."""

import functools
import json
import random
import subprocess
import sys

import keras
import pytest
import tensorflow as tf
import tokenizers as hf

from tests.text import fuzz
from tfzoo import data, text
from tfzoo.errors import ArtifactError, UsageError
from tfzoo.text.byte_pair_graph import split_words

SENTENCES = [
    "It's what we'll do: they've 12 dogs, I'd say; you're 34!  Isn't it?\n\n\tYes.  \n",
    "The other brother gathered the weather, and then another one there.",
    "Zwei Hunde laufen über die grüne Wiese; ooo, wie schön! ¡Olé!",
    "机器翻译很有趣，我们试一试。机器学习也很有趣。",
    "def f(x):\n        return x ** 2  # 😀😀 👍🏽\r\n",
] * 3
BYTE_CHARACTERS = [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 256 + 68)]  # in GPT-2's order


def awkward(count, *, seed):
    """Strings of what GPT-2's words turn on: contractions, digits, every white space, NUL, the special token."""
    generator = random.Random(seed)
    parts = ["'s", "'t", "'re", "'VE", "'ll", "'", "don't", "12", "½", "٣", "Ⅷ", "a", "the", "Ünï", "机器", "한", "😀"]
    parts += ["_", "!!", "<|endoftext|>", "\0", "\x07", "\x1c", "\xad", "\ufeff", "\u200d", "\U0010ffff"]
    parts += [*" \n\t\r\v\f\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000", "  ", " \n", "\n ", "    "]
    weights = [2] * 27 + [3] * (len(parts) - 27)
    return ["".join(generator.choices(parts, weights, k=generator.randrange(12))) for _ in range(count)]


def slices(count, *, seed):
    generator = random.Random(seed)
    whole = "".join(SENTENCES[:5])
    return ["".join(whole[at : at + 12] for at in generator.choices(range(len(whole)), k=2)) for _ in range(count)]


STRINGS = ["", *fuzz.strings(4000, seed=1), *awkward(4000, seed=2), *slices(2000, seed=8)]


def from_merges(merges):
    """A tokenizer of hand-made merges, its pieces in GPT-2's order."""
    merges = [tuple(merge.split()) for merge in merges]
    pieces = dict.fromkeys([*map(chr, BYTE_CHARACTERS), *map("".join, merges), "<|endoftext|>"])
    return text.BytePairTokenizer({piece: index for index, piece in enumerate(pieces)}, merges)


def independent(tokenizer):
    """`tokenizers` as it reads our tokenizer.json, but for the special token, which is text to us."""
    theirs = hf.Tokenizer.from_str(tokenizer.assets()["tokenizer.json"].decode())
    theirs.encode_special_tokens = True
    return theirs


@pytest.fixture(scope="module")
def trained():
    return text.BytePairTokenizer.train(SENTENCES, 420)


def test_the_example_of_the_class():
    tokenizer = from_merges(["Ġ a", "a b"])
    assert tokenizer.encode("ab ab") == [257, 256, 65]
    assert tokenizer.encode("! ") == [0, 220]
    assert tokenizer.tokenize(tf.constant(["ab ab", "! "])).to_list() == [[257, 256, 65], [0, 220]]
    assert tokenizer.vocabulary_size == 259
    assert {tokenizer.pad_id, tokenizer.unk_id, tokenizer.start_id, tokenizer.end_id} == {258}


def test_the_example_of_the_words():
    assert split_words(tf.constant(["it's  2nd \n", ""])).to_list() == [
        [b"it", b"'s", b" ", b" 2", b"nd", b" \n"],
        [],
    ]


def test_any_text_has_the_ids_of_tokenizers(trained):
    assert len(STRINGS) > 10_000
    expected = [one.ids for one in independent(trained).encode_batch(STRINGS)]
    assert [trained.encode(one) for one in STRINGS] == expected
    ids = trained.tokenize(tf.constant(STRINGS))
    assert ids.dtype == tf.int32
    assert ids.to_list() == expected
    # The text uses what was learned: neither bytes alone nor the same few words.
    assert len({one for row in expected for one in row if one >= 256}) > 100


def test_any_text_comes_back(trained):
    ids = [trained.encode(one) for one in STRINGS]
    assert [trained.decode(one) for one in ids] == STRINGS
    texts = trained.detokenize(tf.ragged.constant(ids, dtype=tf.int32))
    assert [one.decode() for one in texts.numpy()] == STRINGS


def test_every_code_point_is_letter_number_space_or_other_as_in_tokenizers():
    generator = random.Random(3)
    code_points = [one for one in range(0x110000) if not 0xD800 <= one < 0xE000]
    generator.shuffle(code_points)
    strings = ["".join(map(chr, code_points[at : at + 256])) for at in range(0, len(code_points), 256)]
    theirs = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    expected = [[end - start for _, (start, end) in theirs.pre_tokenize_str(one)] for one in strings]
    lengths = tf.ragged.map_flat_values(tf.strings.length, split_words(tf.constant(strings)), unit="UTF8_CHAR")
    assert lengths.to_list() == expected


@pytest.mark.parametrize(
    "merges",
    [
        [],
        ["a a", "aa a", "aa aa"],
        ["a b", "b a", "ab a", "a ba", "ab ab"],
        # Two merges make "abc".
        ["b c", "c a", "abc abc", "a bc", "ab c", "abc a", "a b", "a abc"],
        # Out of order: the first "abc" of "abcabc" goes on to "abca" before there is a second.
        ["b c", "abc a", "a bc"],
    ],
    ids=len,
)
def test_hand_made_merges_have_the_ids_of_tokenizers(merges):
    ours = from_merges(merges)
    generator = random.Random(4)
    strings = ["".join(generator.choices("abc", k=generator.randrange(40))) for _ in range(2000)]
    expected = [one.ids for one in independent(ours).encode_batch(strings)]
    assert ours.tokenize(tf.constant(strings)).to_list() == expected
    assert [ours.encode(one) for one in strings] == expected


def test_long_words_have_the_ids_of_tokenizers(trained):
    generator = random.Random(5)
    letters = "".join(generator.choices("etherandow", k=3000))
    strings = ["the" * 20_000, "=" * 50_000, " " * 50_001 + "x", letters]
    assert trained.tokenize(tf.constant(strings)).to_list() == [independent(trained).encode(one).ids for one in strings]


def test_a_long_word_beside_many_takes_little_memory(trained):
    string = " ".join(f"other{index}" for index in range(200_000)) + " " + "the" * 70_000
    assert trained.tokenize(tf.constant([string]))[0].numpy().tolist() == trained.encode(string)


def test_bytes_that_are_not_utf8_are_read_as_python_replaces_them(trained):
    strings = fuzz.not_utf8(500)
    assert trained.tokenize(tf.constant(strings)).to_list() == [
        trained.encode(one.decode("utf-8", "replace")) for one in strings
    ]


def test_surrogates_are_read_as_replacements_unless_they_pair(trained):
    assert trained.decode(trained.encode("a\ud800b\udc00")) == "a\ufffdb\ufffd"
    assert trained.decode(trained.encode("\ud83d\ude00")) == "😀"


def test_decode_equals_detokenize_on_any_ids(trained):
    size = trained.vocabulary_size
    generator = random.Random(7)
    rows = [[generator.randrange(-2, size + 3) for _ in range(generator.randrange(9))] for _ in range(2000)]
    texts = [one.decode() for one in trained.detokenize(tf.ragged.constant(rows, dtype=tf.int32)).numpy()]
    assert texts == [trained.decode(row) for row in rows]
    assert trained.decode([size, *trained.encode("a")]) == "\ufffda"


def test_padding_start_and_end_are_no_text(trained):
    end = trained.end_id
    padded = tf.constant([[end, *trained.encode("the dog"), end, end]])
    assert trained.detokenize(padded).numpy()[0] == b"the dog"
    assert trained.decode(padded.numpy()[0]) == "the dog"


def test_text_cannot_spell_the_special_token(trained):
    ids = trained.encode("<|endoftext|>")
    assert trained.end_id not in ids
    assert trained.decode(ids) == "<|endoftext|>"


def test_no_text_at_all(trained):
    assert trained.tokenize(tf.constant([], tf.string)).to_list() == []
    assert trained.tokenize(tf.constant(["", ""])).to_list() == [[], []]
    assert trained.detokenize(tf.zeros((2, 0), tf.int32)).numpy().tolist() == [b"", b""]


def test_a_data_pipeline_tokenizes_in_graph(trained):
    dataset = tf.data.Dataset.from_tensor_slices(SENTENCES).batch(4).map(trained.tokenize)
    ids = [row for batch in dataset for row in batch.to_list()]
    assert ids == [trained.encode(one) for one in SENTENCES]


def _serve(tokenizer, source):
    ids = tokenizer.tokenize(source)
    return {"token_ids": ids.to_tensor(tokenizer.pad_id), "outputs": tokenizer.detokenize(ids)}


def test_a_saved_model_serves_it_in_a_process_without_tfzoo(trained, tmp_path):
    strings = STRINGS[:40] + STRINGS[-40:]
    archive = keras.export.ExportArchive()
    archive.track(trained.trackable())
    signature = [tf.TensorSpec((None,), tf.string, name="source")]
    archive.add_endpoint("serve", functools.partial(_serve, trained), input_signature=signature)
    archive.write_out(tmp_path / "1", verbose=False)
    code = (
        "import json, sys\n"
        "import tensorflow as tf, tensorflow_text\n"
        f"model = tf.saved_model.load({str(tmp_path / '1')!r})\n"
        "answer = model.signatures['serve'](source=tf.constant(json.load(sys.stdin)))\n"
        "assert 'tfzoo' not in sys.modules\n"
        "texts = [text.decode() for text in answer['outputs'].numpy()]\n"
        "json.dump([answer['token_ids'].numpy().tolist(), texts], sys.stdout)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(strings), capture_output=True, text=True, check=True
    )
    token_ids, texts = json.loads(answer.stdout)
    assert [[one for one in row if one != trained.pad_id] for row in token_ids] == [trained.encode(s) for s in strings]
    assert texts == strings


def test_a_saved_tokenizer_loads_equal_and_without_tensorflow(trained, tmp_path):
    trained.save(tmp_path)
    code = (
        "import json, sys\n"
        "from tfzoo import text\n"
        f"tokenizer = text.load({str(tmp_path)!r})\n"
        "json.dump([tokenizer.encode(one) for one in json.load(sys.stdin)], sys.stdout)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    strings = STRINGS[:60]
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(strings), capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == [trained.encode(one) for one in strings]
    assert text.load(tmp_path).assets() == trained.assets()


def test_files_are_those_of_gpt2(trained):
    files = trained.assets()
    assert set(files) == {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
    pieces = list(json.loads(files["vocab.json"]))
    assert pieces[:3] == ["!", '"', "#"]
    assert pieces[220] == "Ġ"
    assert pieces[-1] == "<|endoftext|>"
    assert files["merges.txt"].decode().split("\n")[0] == "#version: 0.2"
    theirs = hf.Tokenizer.from_str(files["tokenizer.json"].decode())
    assert theirs.encode("the<|endoftext|>").ids == [*trained.encode("the"), trained.end_id]
    assert theirs.decode(trained.encode(SENTENCES[4])) == SENTENCES[4]
    config = json.loads(files["tokenizer_config.json"])
    assert config["tokenizer_class"] == "GPT2Tokenizer"
    assert config["eos_token"] == config["pad_token"] == "<|endoftext|>"


def test_files_of_other_makers_load_equal(trained, tmp_path):
    files = trained.assets()
    openai, alone, windows = (tmp_path / name for name in ("openai", "alone", "windows"))
    for directory in (openai, alone, windows):
        directory.mkdir()
    # OpenAI's names, JSON in ASCII, and ids in any order.
    vocabulary = sorted(json.loads(files["vocab.json"]).items())
    (openai / "encoder.json").write_text(json.dumps(dict(vocabulary)), encoding="utf-8")
    (openai / "vocab.bpe").write_bytes(files["merges.txt"])
    # Hugging Face's one file, newer: pairs as lists, optional fields; the end token as an added token alone.
    content = json.loads(files["tokenizer.json"])
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    content["model"] |= {"dropout": None, "continuing_subword_prefix": "", "byte_fallback": False}
    del content["model"]["vocab"]["<|endoftext|>"]
    del content["pre_tokenizer"]["use_regex"]
    (alone / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (windows / "vocab.json").write_bytes(files["vocab.json"])
    (windows / "merges.txt").write_bytes(files["merges.txt"].replace(b"\n", b"\r\n"))
    for directory in (openai, alone, windows):
        assert text.load(directory).assets() == files


def test_training_twice_gives_the_same_files_in_any_process():
    code = (
        "import json, sys\n"
        "from tfzoo import text\n"
        "assets = text.BytePairTokenizer.train(json.load(sys.stdin), 400).assets()\n"
        "sys.stdout.write(assets['tokenizer.json'].decode())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code],
        input=json.dumps(SENTENCES),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert answer.stdout.encode() == text.BytePairTokenizer.train(SENTENCES, 400).assets()["tokenizer.json"]


def test_training_learns_the_most_frequent_pair_first():
    tokenizer = text.BytePairTokenizer.train(["abab abab bb"], 258)
    assert tokenizer.encode("ab") == [256]
    assert tokenizer.vocabulary_size == 258


def test_training_shrinks_when_nothing_occurs_twice():
    tokenizer = text.BytePairTokenizer.train(["abc"], 5000)
    assert tokenizer.vocabulary_size == 257
    assert tokenizer.tokenize(tf.constant(["abc"])).to_list() == [tokenizer.encode("abc")] == [[64, 65, 66]]


def test_a_configuration_trains_it_on_records_of_any_width(tmp_path):
    config = text.TokenizerConfig(source="byte_pair")
    alone = text.train_pair(config, [(one,) for one in SENTENCES], 300)
    assert alone.shared
    assert alone.source.assets() == text.BytePairTokenizer.train(SENTENCES, 300).assets()
    alone.save(tmp_path)
    assert text.TokenizerPair.load(tmp_path).assets() == alone.assets()


def test_sequence_to_sequence_data_refuses_it(trained, tmp_path):
    (tmp_path / "pairs.tsv").write_text("a\tb\n", encoding="utf-8")
    with pytest.raises(UsageError, match="BytePairTokenizer"):
        data.seq2seq(f"tsv:{tmp_path / 'pairs.tsv'}", trained)


def _replaced(name, old, new):
    return lambda files: {**files, name: files[name].replace(old, new)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_replaced("vocab.json", "{", "["), r"vocab\.json is damaged: not JSON"),
        (lambda files: {**files, "vocab.json": "[]"}, "no mapping of piece -> id"),
        (lambda files: {**files, "vocab.json": '{"a": "0"}'}, "no mapping of piece -> id"),
        (_replaced("vocab.json", " 17,", " 18,"), "ids must count up from 0 without gaps"),
        (_replaced("vocab.json", '"<|endoftext|>"', '"</s>"'), r"the vocabulary lacks '<\|endoftext\|>'"),
        (_replaced("vocab.json", '"Ġw"', '"wĠ"'), "the vocabulary lacks 'Ġw'"),
        (_replaced("merges.txt", "\ni e\n", "\n"), "no merge makes 'ie'"),
        (_replaced("merges.txt", "\ni e\n", "\ni e\ni e\n"), "a merge stands twice"),
        (_replaced("merges.txt", "\ni e\n", "\ni  e\n"), r"merges\.txt:\d+: a line is two pieces .* received 'i  e'"),
        (
            lambda files: {**files, "merges.txt": files["merges.txt"][:201]},
            r"merges\.txt: .* no merge makes .* and \d+ more pieces",
        ),
        (lambda files: {"merges.txt": files["merges.txt"]}, r"vocab\.json cannot be read \(No such file"),
        (lambda files: {"tokenizer.json": "{}"}, r"tokenizer\.json is damaged \(KeyError"),
        (lambda files: {"tokenizer.json": "[]"}, r"tokenizer\.json is damaged \(TypeError"),
        (lambda files: {"tokenizer.json": files["tokenizer.json"][:-9]}, r"tokenizer\.json is damaged: not JSON"),
        (
            lambda files: _replaced("tokenizer.json", '"add_prefix_space": false', '"add_prefix_space": true')(
                {"tokenizer.json": files["tokenizer.json"]}
            ),
            r"tokenizer\.json is no tokenizer as GPT-2's: pre_tokenizer\.add_prefix_space is True",
        ),
        (
            lambda files: _replaced("tokenizer.json", '"BPE"', '"Unigram"')(
                {"tokenizer.json": files["tokenizer.json"]}
            ),
            r"model\.type is 'Unigram'",
        ),
    ],
)
def test_damaged_files_are_named(trained, tmp_path, damage, message):
    files = {name: content.decode() for name, content in trained.assets().items()}
    changed = damage(files)
    assert changed != files
    for name, content in changed.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message) as error:
        text.load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
