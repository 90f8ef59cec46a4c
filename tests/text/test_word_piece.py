"""BERT's ids: those of Hugging Face's own pipeline, in Python, in a graph, from files, and from a served SavedModel."""

import functools
import json
import random
import subprocess
import sys
import unicodedata

import keras
import pytest
import tensorflow as tf
import tokenizers as hf

from tests.text import fuzz
from tfzoo import data, text
from tfzoo.errors import ArtifactError, RecipeError
from tfzoo.export import serving_rules
from tfzoo.export.saved_model import count_operators
from tfzoo.text.word_piece_graph import split_words

SENTENCES = [
    "It's what we'll do: they've 12 dogs, I'd say; you're 34! Isn't it?",
    "The other brother gathered the weather, and then another one there.",
    "Zwei Hunde laufen über die grüne Wiese; ooo, wie schön! ¡Olé!",
    "机器翻译很有趣，我们试一试。機器學習也很有趣。カタカナとひらがな",
    "Tiếng Việt rất đẹp; съешь ещё этих мягких французских булок 각 나라의 말 😀😀",
] * 3


def awkward(count, *, seed):
    """Strings of what BERT's words turn on: accents in both forms, marks, punctuation, every space, NUL, long words."""
    generator = random.Random(seed)
    parts = ["'s", "don't", "12", "½", "THE", "the", "Ünï", unicodedata.normalize("NFD", "Ünï"), "机器", "한국", "😀"]
    parts += ["İ", "ß", "ẞ", "Σίσυφος", "ǅ", "ﬁ", "Å", "\u0344", "\u0e33", "\U0001d15e", "\u08d4", "\u302e", "\u034f"]
    parts += ["_", "!!", "<|>", "[", "]", "##", "##s", "…", "、", "。", "·", "¿", "@", "`", "$", "€", "\U00011fff"]
    parts += ["\0", "\ufffd", "\x07", "\x1c", "\xad", "\ufeff", "\u200d", "\U0010ffff", "\U000f0000", "\u0378"]
    parts += [*" \n\t\r\v\f\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000", "  ", "e" * 99, "é" * 100, "x" * 101]
    return ["".join(generator.choices(parts, k=generator.randrange(12))) for _ in range(count)]


def slices(count, *, seed):
    generator = random.Random(seed)
    whole = " ".join(SENTENCES[:5])
    return ["".join(whole[at : at + 20] for at in generator.choices(range(len(whole)), k=2)) for _ in range(count)]


STRINGS = ["", *SENTENCES, *fuzz.strings(5000, seed=1), *awkward(4000, seed=2), *slices(1500, seed=8)]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert(tokenizer):
    """Hugging Face's own BERT tokenizer with the same vocabulary."""
    pieces = tokenizer.assets()["vocab.txt"].decode().split("\n")[:-1]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return hf.BertWordPieceTokenizer(vocabulary, lowercase=tokenizer.lowercase)


def ids_of(theirs, strings):
    return [one.ids for one in theirs.encode_batch(strings, add_special_tokens=False)]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def trained(request):
    return text.WordPieceTokenizer.train(SENTENCES, 300, lowercase=request.param)


def shuffled(tokenizer):
    """The same pieces by other ids, the special ones scattered, as in BERT's own files."""
    pieces = tokenizer.assets()["vocab.txt"].decode().split("\n")[:-1]
    random.Random(9).shuffle(pieces)
    return text.WordPieceTokenizer(pieces, lowercase=tokenizer.lowercase)


def test_the_example_of_the_class():
    tokenizer = text.WordPieceTokenizer([*SPECIAL, "the", "dog", "##s", "!"])
    assert tokenizer.encode("The dogs!") == [5, 6, 7, 8]
    assert tokenizer.tokenize(tf.constant(["The dogs!", "dogsled s"])).to_list() == [[5, 6, 7, 8], [1, 1]]
    assert tokenizer.decode([5, 6, 7, 8]) == "the dogs !"
    special = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
    assert special == (0, 1, 2, 3, 4)


def test_the_example_of_the_words():
    words = split_words(tf.constant(["Ünï's 漢字", ""]), lowercase=True)
    assert [[one.decode() for one in row] for row in words.to_list()] == [["uni", "'", "s", "漢", "字"], []]


def test_any_text_has_the_ids_of_hugging_face(trained):
    assert len(STRINGS) > 10_000
    for tokenizer in (trained, shuffled(trained)):
        expected = ids_of(bert(tokenizer), STRINGS)
        ids = tokenizer.tokenize(tf.constant(STRINGS))
        assert ids.dtype == tf.int32
        assert ids.to_list() == expected
    assert [tokenizer.encode(one) for one in STRINGS] == expected
    # The text uses what was learned, and not the unknown token alone.
    assert len({one for row in expected for one in row}) > 220


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_code_point_makes_the_words_of_hugging_face(lowercase):
    generator = random.Random(3)
    code_points = [one for one in range(0x110000) if not 0xD800 <= one < 0xE000]
    generator.shuffle(code_points)
    strings = ["".join(map(chr, code_points[at : at + 512])) for at in range(0, len(code_points), 512)]
    # Runs of marks, which are put in order; some are dropped, before or after that.
    marks = [chr(one) for one in code_points if unicodedata.combining(chr(one))] + [*"\xad\u034f\u0903\u093f\u09c7aaaa"]
    strings += ["".join(generator.choices(marks, k=40)) for _ in range(2000)]
    normalizer, splitter = hf.normalizers.BertNormalizer(lowercase=lowercase), hf.pre_tokenizers.BertPreTokenizer()
    expected = [[word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(one))] for one in strings]
    words = split_words(tf.constant(strings), lowercase=lowercase).to_list()
    assert [[word.decode() for word in row] for row in words] == expected


def test_the_two_cases_differ():
    uncased, cased = (text.WordPieceTokenizer.train(SENTENCES, 300, lowercase=one) for one in (True, False))
    assert uncased.encode("Über") == uncased.encode("uber")
    assert cased.encode("über") != cased.encode("uber")
    assert cased.decode(cased.encode("Hunde Olé")) == "Hunde Olé"
    assert uncased.decode(uncased.encode("Hunde Olé")) == "hunde ole"


def test_a_word_has_at_most_100_characters_of_any_size():
    tokenizer = text.WordPieceTokenizer([*SPECIAL, "é", "##é", "a", "##a", "😀", "##😀"], lowercase=False)
    words = [letter * count for letter in "éa😀" for count in (99, 100, 101, 5000)]
    lengths = [99, 100, 1, 1] * 3
    assert [len(tokenizer.encode(word)) for word in words] == lengths
    assert tokenizer.tokenize(tf.constant(words)).row_lengths().numpy().tolist() == lengths
    assert tokenizer.encode("a" * 101) == [1]


def test_many_rows_beside_a_long_one_take_little_memory(trained):
    strings = ["the other"] * 20_000 + ["the other " * 20_000]
    expected = trained.encode("the other")
    ids = trained.tokenize(tf.constant(strings))
    assert ids[0].numpy().tolist() == expected
    assert ids[-1].numpy().tolist() == expected * 20_000


def test_text_cannot_spell_a_special_token_though_it_can_in_hugging_face(trained):
    string = "the [SEP] [MASK][CLS] [PAD] [UNK]"
    ids = trained.encode(string)
    assert not {trained.pad_id, trained.start_id, trained.end_id, trained.mask_id} & {*ids}
    assert trained.tokenize(tf.constant([string])).to_list() == [ids]
    assert {trained.end_id, trained.mask_id} <= {*ids_of(bert(trained), [string])[0]}


def test_bytes_that_are_not_utf8_and_half_pairs_are_dropped(trained):
    strings = fuzz.not_utf8(500)
    expected = [trained.encode(one.decode("utf-8", "replace")) for one in strings]
    assert trained.tokenize(tf.constant(strings)).to_list() == expected
    assert trained.encode("th\ud800e\udc00") == trained.encode("the")


def test_decode_equals_detokenize_on_any_ids(trained):
    size = trained.vocabulary_size
    generator = random.Random(7)
    rows = [[generator.randrange(-2, size + 3) for _ in range(generator.randrange(9))] for _ in range(2000)]
    tokenizer = shuffled(trained)
    texts = [one.decode() for one in tokenizer.detokenize(tf.ragged.constant(rows, dtype=tf.int32)).numpy()]
    assert texts == [tokenizer.decode(row) for row in rows]
    # Hugging Face leaves the unknown token out with the other special ones.
    known = [row for row in rows if all(0 <= one < size for one in row) and tokenizer.unk_id not in row]
    theirs = hf.Tokenizer.from_str(tokenizer.assets()["tokenizer.json"].decode())
    assert len(known) > 500
    assert [tokenizer.decode(row) for row in known] == [theirs.decode(row) for row in known]


def test_decoding_joins_pieces_by_its_rule():
    tokenizer = text.WordPieceTokenizer([*SPECIAL, "don", "'", "t", "##ing", "##"])
    assert tokenizer.decode([5, 6, 7, 8]) == "don ' ting"
    assert tokenizer.decode([2, 8, 8, 3, 0]) == "##inging"
    assert tokenizer.decode([5, 1, 99, 4, 9, 5]) == "don ⁇ ⁇ don"
    assert tokenizer.detokenize(tf.constant([[2, 8, 8, 3, 0, 0], [5, 1, 99, 4, 9, 5]])).numpy().tolist() == [
        b"##inging",
        "don ⁇ ⁇ don".encode(),
    ]


def test_no_text_at_all(trained):
    assert trained.tokenize(tf.constant([], tf.string)).to_list() == []
    assert trained.tokenize(tf.constant(["", " \n"])).to_list() == [[], []]
    assert trained.detokenize(tf.zeros((2, 0), tf.int32)).numpy().tolist() == [b"", b""]
    assert trained.decode([]) == ""


def test_a_data_pipeline_tokenizes_in_graph(trained):
    dataset = tf.data.Dataset.from_tensor_slices(SENTENCES).batch(4).map(trained.tokenize)
    assert [row for batch in dataset for row in batch.to_list()] == [trained.encode(one) for one in SENTENCES]


def _serve(tokenizer, source):
    ids = tokenizer.tokenize(source)
    return {"token_ids": ids.to_tensor(tokenizer.pad_id), "outputs": tokenizer.detokenize(ids)}


def test_a_saved_model_serves_it_in_a_process_without_tfzoo(tmp_path):
    trained = text.WordPieceTokenizer.train(SENTENCES, 300)
    strings = STRINGS[:40] + STRINGS[-40:]
    archive = keras.export.ExportArchive()
    archive.track(trained.trackable())
    signature = [tf.TensorSpec((None,), tf.string, name="source")]
    archive.add_endpoint("serve", functools.partial(_serve, trained), input_signature=signature)
    archive.write_out(tmp_path / "1", verbose=False)
    operators = count_operators(tmp_path / "1")
    serving_rules.check_operators(operators)
    assert "FastWordpieceTokenizeWithOffsets" in operators
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
    expected = [trained.encode(one) for one in strings]
    assert [[one for one in row if one != trained.pad_id] for row in token_ids] == expected
    assert texts == [trained.decode(one) for one in expected]


def test_files_are_those_of_bert(trained):
    tokenizer = shuffled(trained)
    files = tokenizer.assets()
    assert set(files) == {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
    theirs = hf.Tokenizer.from_str(files["tokenizer.json"].decode())
    ids = tokenizer.encode("the dogs!")
    assert theirs.encode("the dogs!").ids == [tokenizer.start_id, *ids, tokenizer.end_id]
    pair = theirs.encode("the", "the")
    assert (pair.ids, pair.type_ids) == (bert(tokenizer).encode("the", "the").ids, [0, 0, 0, 1, 1])
    assert ids_of(theirs, STRINGS[:500]) == [tokenizer.encode(one) for one in STRINGS[:500]]
    config = json.loads(files["tokenizer_config.json"])
    assert (config["tokenizer_class"], config["do_lower_case"]) == ("BertTokenizer", tokenizer.lowercase)
    assert [config[f"{name}_token"] for name in ("pad", "unk", "cls", "sep", "mask")] == [*SPECIAL]


def test_files_of_other_makers_load_equal(trained, tmp_path):
    tokenizer = shuffled(trained)
    files = tokenizer.assets()
    alone, windows, bare = (tmp_path / name for name in ("alone", "windows", "bare"))
    for directory in (alone, windows, bare):
        directory.mkdir()
    # Hugging Face's one file, with the special tokens among the added ones alone.
    content = json.loads(files["tokenizer.json"])
    del content["model"]["vocab"]["[MASK]"]
    (alone / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (windows / "vocab.txt").write_bytes(files["vocab.txt"].replace(b"\n", b"\r\n"))
    (windows / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": trained.lowercase}), encoding="utf-8")
    for directory in (alone, windows):
        assert text.load(directory).assets() == files
    # Google's files say nothing of case.
    (bare / "vocab.txt").write_bytes(files["vocab.txt"].removesuffix(b"\n"))
    assert text.load(bare).lowercase
    assert text.WordPieceTokenizer.from_vocabulary(bare / "vocab.txt", trained.lowercase).assets() == files


def test_training_twice_gives_the_same_files_in_any_process():
    code = (
        "import json, sys\n"
        "from tfzoo import text\n"
        "assets = text.WordPieceTokenizer.train(json.load(sys.stdin), 300).assets()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "sys.stdout.write(assets['vocab.txt'].decode())\n"
    )
    expected = text.WordPieceTokenizer.train(SENTENCES, 300).assets()["vocab.txt"]
    answer = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code],
        input=json.dumps(SENTENCES),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert answer.stdout.encode() == expected


def test_training_learns_the_most_frequent_pair_first():
    tokenizer = text.WordPieceTokenizer.train(["Abab abab ab cb"], 13)
    pieces = [*SPECIAL, "a", "b", "c", "##a", "##b", "ab", "##ab", "abab"]
    assert tokenizer.assets()["vocab.txt"].decode().split() == pieces
    assert tokenizer.encode("ABAB bab cb") == [12, 6, 11, 7, 9]


def test_training_shrinks_when_nothing_occurs_twice():
    assert text.WordPieceTokenizer.train(["abc"], 5000).vocabulary_size == 5 + 3 + 2


def test_training_takes_the_most_frequent_characters():
    tokenizer = text.WordPieceTokenizer.train(["aaaa bbb aaz"], 50, character_coverage=0.9)
    assert tokenizer.unk_id not in tokenizer.encode("aa bb")
    assert tokenizer.encode("z aaz") == [tokenizer.unk_id] * 2


def test_a_configuration_trains_it(tmp_path):
    config = text.TokenizerConfig(source="word_piece", lowercase=False)
    pair = text.train_pair(config, [(one,) for one in SENTENCES], 300)
    assert pair.source.assets() == text.WordPieceTokenizer.train(SENTENCES, 300, lowercase=False).assets()
    pair.save(tmp_path)
    assert text.TokenizerPair.load(tmp_path).assets() == pair.assets()
    with pytest.raises(RecipeError, match="word_piece"):
        text.TokenizerConfig(source="wordpiece")


def test_sequence_to_sequence_data_takes_its_special_ids(trained, tmp_path):
    (tmp_path / "pairs.tsv").write_text("the dogs\tthere\n", encoding="utf-8")
    spec = f"tsv:{tmp_path / 'pairs.tsv'}"
    inputs, labels, *_ = next(iter(data.seq2seq(spec, trained, batch_size=1)))
    assert inputs["encoder_token_ids"].numpy().tolist() == [[*trained.encode("the dogs"), trained.end_id]]
    assert labels.numpy().tolist() == [[*trained.encode("there"), trained.end_id]]


def _replaced(name, old, new):
    return lambda files: {**files, name: files[name].replace(old, new)}


def _alone(old, new):
    return lambda files: {"tokenizer.json": files["tokenizer.json"].replace(old, new)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_replaced("vocab.txt", "\nthe\n", "\nthe\nthe\n"), r"vocab\.txt: .* 'the' has two ids, (\d+) and \d+"),
        (_replaced("vocab.txt", "\nthe\n", "\n\n"), r"vocab\.txt: .* id \d+ is no piece but ''"),
        (_replaced("vocab.txt", "\nthe\n", "\nt\0e\n"), r"vocab\.txt: .* id \d+ has a control character"),
        (_replaced("vocab.txt", "\nthe\n", f"\n##{'é' * 129}\n"), r"vocab\.txt: .* id \d+ is longer than 256 bytes"),
        (_replaced("vocab.txt", "[MASK]", "[MSK]"), r"vocab\.txt: .* it lacks \[MASK\]"),
        (lambda files: {"vocab.txt": files["vocab.txt"][:13]}, r"vocab\.txt: .* it lacks \[CLS\], \[SEP\], \[MASK\]"),
        (_replaced("tokenizer_config.json", "{", "["), r"tokenizer_config\.json is damaged: not JSON"),
        (lambda files: {**files, "tokenizer_config.json": "[]"}, r"tokenizer_config\.json is damaged \(Attrib"),
        (
            _replaced("tokenizer_config.json", '"do_lower_case": true', '"do_lower_case": "yes"'),
            r"tokenizer_config\.json is damaged \(do_lower_case is 'yes'",
        ),
        (
            _replaced("tokenizer_config.json", '"strip_accents": null', '"strip_accents": false'),
            r"tokenizer_config\.json .* strip_accents is False",
        ),
        (
            _replaced("tokenizer_config.json", '"tokenize_chinese_chars": true', '"tokenize_chinese_chars": false'),
            r"tokenizer_config\.json .* tokenize_chinese_chars is False",
        ),
        (lambda files: {"tokenizer.json": files["tokenizer.json"][:-9]}, r"tokenizer\.json is damaged: not JSON"),
        (_alone('"clean_text"', '"clean"'), r"tokenizer\.json is damaged \(KeyError"),
        (_alone('"BertNormalizer"', '"NFC"'), r"tokenizer\.json is no .* normalizer\.type is 'NFC'"),
        (_alone('"BertPreTokenizer"', '"Whitespace"'), r"pre_tokenizer\.type is 'Whitespace'"),
        (_alone('"strip_accents": null', '"strip_accents": false'), r"normalizer\.strip_accents is False"),
        (_alone('_per_word": 100', '_per_word": 50'), r"model\.max_input_chars_per_word is 50"),
        (_alone('"the": ', '"the": 1'), r"tokenizer\.json is damaged .*ids must count up"),
        (_alone('"content": "[SEP]"', '"content": "</s>"'), r"added_tokens holds '</s>'"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, message):
    files = text.WordPieceTokenizer.train(SENTENCES, 300).assets()
    files = {name: content.decode() for name, content in files.items()}
    changed = damage(files)
    assert changed != files
    for name, content in changed.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    with pytest.raises(ArtifactError, match=message) as error:
        text.load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
