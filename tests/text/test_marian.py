"""Marian's tokenizers: the same ids in a graph, in Python, from files, in a SavedModel and by Hugging Face's reader."""

import functools
import json
import random
import subprocess
import sys

import keras
import pytest
import sentencepiece
import tensorflow as tf
import tokenizers as hf
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from tests.text import fuzz, marian
from tfzoo import text
from tfzoo.errors import ArtifactError


@pytest.fixture(scope="module")
def pair():
    return marian.tokenizers()


@pytest.fixture(scope="module", params=["source", "target"])
def tokenizer(request, pair):
    return getattr(pair, request.param)


def strings(seed):
    texts = fuzz.strings(1500, seed=seed) + marian.ENGLISH + marian.GERMAN
    return texts + [f"{code}{one}" for code in (*marian.CODES, ">>en<<", "a >>de<<") for one in ("", " ", "A dog", "ä")]


def by_hand(*pieces, **options):
    """A model of given pieces, each a nat less likely than the one before."""
    proto = ModelProto()
    proto.pieces.add(piece="<unk>", score=0.0, type=ModelProto.SentencePiece.UNKNOWN)
    for score, piece in enumerate(pieces, start=1):
        proto.pieces.add(piece=piece, score=-float(score))
    proto.trainer_spec.model_type = 1
    proto.normalizer_spec.MergeFrom(ModelProto.FromString(marian.train_model(marian.ENGLISH)).normalizer_spec)
    for name, value in options.items():
        setattr(proto.normalizer_spec, name, value)
    return proto.SerializeToString()


def test_the_example_of_the_docstring():
    vocabulary = {"</s>": 0, "<unk>": 1, "▁": 2, "b": 3, "a": 4, ">>de<<": 5, "<pad>": 6}
    tokenizer = text.MarianTokenizer(by_hand("▁", "a", "b"), vocabulary, "source")
    assert tokenizer.encode(">>de<< ab c") == [5, 2, 4, 3, 2, 1]
    assert (tokenizer.end_id, tokenizer.unk_id, tokenizer.pad_id, tokenizer.start_id) == (0, 1, 6, 6)
    assert tokenizer.vocabulary_size == 7
    # Cut off as one unknown piece, which is spelt like a special token.
    assert tokenizer.encode("</s>") == tokenizer.tokenize(tf.constant(["</s>"])).to_list()[0] == [2, 1]
    assert tokenizer.decode([6, 5, 2, 4, 3, 2, 1, 0, 6, 6]) == ">>de<< ab  ⁇"


def test_pieces_are_looked_up_as_marian_does(pair):
    """What the reference of these models does: SentencePiece's own pieces, as text, through the vocabulary."""
    for tokenizer, sentences in ((pair.source, marian.ENGLISH), (pair.target, marian.GERMAN)):
        reference = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        for sentence in [one.replace("ooo", "oh") for one in (*sentences, "A dog. Ein Hund.")]:  # no ties
            ids = [tokenizer.vocabulary.get(piece, 1) for piece in reference.encode(sentence, out_type=str)]
            assert tokenizer.encode(sentence) == ids
            if 1 not in ids:
                assert tokenizer.decode(ids) == sentence.replace("½", "1⁄2")  # as NFKC has it
    assert pair.source.encode("the") == [1]  # the model has "▁the", the vocabulary has not
    assert 1 not in pair.source.encode("ü")  # the model has no "ü", the vocabulary has
    assert not {0, pair.source.pad_id} & {*pair.source.encode("</s> <pad>")}


def test_encode_equals_tokenize_on_any_text(tokenizer):
    texts = strings(1)
    ids = tokenizer.tokenize(tf.constant(texts))
    assert ids.dtype == tf.int32
    assert ids.to_list() == [tokenizer.encode(one) for one in texts]


def test_encode_equals_tokenize_where_segmentations_tie():
    generator = random.Random(0)

    def runs(letters, count):
        return "".join(letter * generator.randint(1, 4) for letter in generator.choices(letters, k=count))

    model = marian.train_model([runs("abcdo ", 20) for _ in range(200)], 60)
    tokenizer = text.MarianTokenizer(model, marian.vocabulary(model), "source")
    texts = [runs("abcdo ", 12) for _ in range(500)]
    assert tokenizer.tokenize(tf.constant(texts)).to_list() == [tokenizer.encode(one) for one in texts]


def test_bytes_that_are_not_utf8(tokenizer):
    ids = tokenizer.tokenize(tf.constant([b"dog \xff\xfe \xc3", b">>de<< \xff", b">>\xff<< a"])).to_list()
    assert ids[0].count(1) >= 2
    assert ids[1][0] == 2
    assert ids[1].count(1) == 1
    assert 2 not in ids[2]
    assert tokenizer.encode("a \ud800") == tokenizer.encode("a \ufffd")


def test_decode_equals_detokenize_on_any_ids(tokenizer):
    size = tokenizer.vocabulary_size
    generator = random.Random(2)
    rows = [[generator.randrange(-2, size + 3) for _ in range(generator.randrange(9))] for _ in range(2000)]
    texts = tokenizer.detokenize(tf.ragged.constant(rows, dtype=tf.int32))
    assert [one.decode() for one in texts.numpy()] == [tokenizer.decode(row) for row in rows]
    assert tokenizer.detokenize(tf.constant([[5, 7], [9, size - 1]])).numpy().tolist() == [
        tokenizer.decode([5, 7]).encode(),
        tokenizer.decode([9]).encode(),
    ]


def test_a_code_is_one_token_where_a_text_begins(pair):
    source = pair.source
    rest = source.encode("A cat")
    assert source.encode(">>zh_TW<<A cat") == source.encode(">>zh_TW<<  A cat") == [3, *rest]
    assert 3 not in source.encode("A >>zh_TW<< cat")
    assert not {2, 3} & set(source.encode(">>fr<< A cat"))


def test_without_codes_the_graph_looks_for_none():
    model = marian.train_model(marian.ENGLISH)
    tokenizer = text.MarianTokenizer(model, marian.vocabulary(model, codes=()), "source")
    assert tokenizer.codes == []
    texts = [">>de<< A dog", "A dog"]
    assert tokenizer.tokenize(tf.constant(texts)).to_list() == [tokenizer.encode(one) for one in texts]
    graph = tf.function(tokenizer.tokenize).get_concrete_function(tf.TensorSpec((None,), tf.string)).graph
    assert not [one.type for one in graph.get_operations() if "Regex" in one.type]


def test_a_saved_pair_loads_equal_and_without_tensorflow(pair, tmp_path):
    pair.save(tmp_path)
    texts = fuzz.strings(50, seed=3) + [">>de<< A dog"]
    code = (
        "import json, sys\n"
        "from tfzoo import text\n"
        f"pair = text.TokenizerPair.load({str(tmp_path)!r})\n"
        "ids = [[side.encode(one) for one in json.load(sys.stdin)] for side in (pair.source,)]\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert pair.one_vocabulary and not pair.shared\n"
        "json.dump(ids + [[pair.target.decode(one) for one in ids[0]]], sys.stdout)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    ids, decoded = json.loads(answer.stdout)
    assert ids == [pair.source.encode(one) for one in texts]
    assert decoded == [pair.target.decode(one) for one in ids]
    assert text.TokenizerPair.load(tmp_path).assets() == pair.assets()


def test_the_model_is_kept_as_it_was_given(pair, tmp_path):
    pair.save(tmp_path)
    assert (tmp_path / "source/source.spm").read_bytes() == marian.train_model(marian.ENGLISH) == pair.source.model
    assert (tmp_path / "target/target.spm").read_bytes() == pair.target.model
    assert json.loads((tmp_path / "target/vocab.json").read_bytes()) == pair.target.vocabulary


def test_two_vocabularies():
    pair = marian.tokenizers(separate=True)
    assert not pair.one_vocabulary
    assert pair.source.vocabulary != pair.target.vocabulary


def test_a_checkpoint_folder_gives_the_pair(pair, tmp_path):
    (tmp_path / "source.spm").write_bytes(pair.source.model)
    (tmp_path / "target.spm").write_bytes(pair.target.model)
    (tmp_path / "vocab.json").write_text(json.dumps(pair.source.vocabulary))
    assert text.TokenizerPair.load(tmp_path).assets() == pair.assets()
    other = dict(pair.target.vocabulary) | {"more": len(pair.target.vocabulary)}
    (tmp_path / "target_vocab.json").write_text(json.dumps(other))
    loaded = text.TokenizerPair.load(tmp_path)
    assert loaded.target.vocabulary == other
    assert loaded.source.vocabulary == pair.source.vocabulary
    assert not loaded.one_vocabulary


def _serve(pair, source):
    ids = pair.source.tokenize(source)
    return {"token_ids": ids.to_tensor(-1), "outputs": pair.target.detokenize(ids)}


def test_a_saved_model_serves_it_in_a_process_without_tfzoo(pair, tmp_path):
    texts = fuzz.strings(40, seed=4) + [">>de<< A dog"]
    archive = keras.export.ExportArchive()
    for tokenizer in (pair.source, pair.target):
        archive.track(tokenizer.trackable())
    signature = [tf.TensorSpec((None,), tf.string, name="source")]
    archive.add_endpoint("serve", functools.partial(_serve, pair), input_signature=signature)
    archive.write_out(tmp_path / "1", verbose=False)
    code = (
        "import json, sys\n"
        "import tensorflow as tf, tensorflow_text\n"
        f"model = tf.saved_model.load({str(tmp_path / '1')!r})\n"
        "answer = model.signatures['serve'](source=tf.constant(json.load(sys.stdin)))\n"
        "assert 'tfzoo' not in sys.modules\n"
        "json.dump([answer['token_ids'].numpy().tolist(), [one.decode() for one in answer['outputs'].numpy()]],"
        "          sys.stdout)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    token_ids, outputs = json.loads(answer.stdout)
    expected = [pair.source.encode(one) for one in texts]
    assert [[one for one in row if one >= 0] for row in token_ids] == expected
    assert outputs == [pair.target.decode(ids) for ids in expected]


def test_setting_a_seed_leaves_it_alive(tokenizer):
    before = tokenizer.tokenize(tf.constant(["one"])).to_list()
    keras.utils.set_random_seed(1)  # throws away TensorFlow's eager kernels
    assert tokenizer.tokenize(tf.constant(["one"])).to_list() == before


@pytest.mark.parametrize(
    "options",
    [{}, {"normalization_rule_name": "identity"}, {"add_dummy_prefix": False}, {"remove_extra_whitespaces": False}],
    ids=str,
)
def test_hugging_face_gives_the_same_ids_and_text(options):
    model = marian.train_model(marian.ENGLISH, **options)
    other = marian.train_model(marian.GERMAN)
    tokenizer = text.MarianTokenizer(model, marian.vocabulary(model, other), "source")
    reader = hf.Tokenizer.from_str(tokenizer.assets()["tokenizer.json"].decode())
    compared = 0
    any_text = [] if options else [one for one in fuzz.strings(400, seed=6) if one.isascii()]
    for one in marian.ENGLISH[:3] + [
        "A  dog",
        " A dog ",
        ">>de<< A dog",
        ">>de<<A dog",
        "zzz",
        *any_text,
    ]:
        if tokenizer.is_cut_by_vocabulary(one) and "</s>" not in one:
            compared += 1
            assert reader.encode(one).ids == [*tokenizer.encode(one), 0], ascii(one)
    assert compared > (5 if options else 30)
    generator = random.Random(1)
    for _ in range(300):
        ids = [generator.randrange(2, tokenizer.vocabulary_size) for _ in range(generator.randrange(9))]
        assert reader.decode(ids) == tokenizer.decode(ids), ids


def refused(pattern, *arguments):
    with pytest.raises(ArtifactError, match=pattern) as raised:
        text.MarianTokenizer(*arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "bpe"}, "`model` asks for another type than unigram"),
        ({"byte_fallback": True, "vocab_size": 400}, "`model` asks for a fallback to bytes"),
        ({"treat_whitespace_as_suffix": True}, "`model` asks for white space behind the word"),
        ({"user_defined_symbols": ["@@"]}, "`model` asks for user-defined pieces"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_computed_is_refused(options, message):
    refused(message, marian.train_model(marian.ENGLISH, **options), {"</s>": 0, "<unk>": 1, "<pad>": 2}, "source")


def test_other_refusals():
    model = by_hand("a")
    refused("4 bytes that do not parse", b"junk", {"</s>": 0, "<unk>": 1, "<pad>": 2}, "source")
    refused("0 bytes that do not parse", b"", {"</s>": 0, "<unk>": 1, "<pad>": 2}, "source")
    refused("it lacks '<pad>'", model, {"</s>": 0, "<unk>": 1}, "source")
    refused("ids must count up from 0", model, {"</s>": 0, "<unk>": 1, "<pad>": 3}, "source")
    refused("it is no mapping", model, ["</s>"], "source")
    special = {"</s>": 0, "<unk>": 1, "<pad>": 2}
    refused("`model` asks for spaces that are not escaped", by_hand("a", escape_whitespaces=False), special, "source")


def test_missing_and_damaged_files_are_named(pair, tmp_path):
    pair.save(tmp_path)
    (tmp_path / "source/vocab.json").unlink()
    with pytest.raises(ArtifactError, match=r"source/vocab\.json cannot be read"):
        text.TokenizerPair.load(tmp_path)
    (tmp_path / "source/vocab.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"source\.spm and .*vocab\.json: `vocabulary` is no .* lacks '</s>'"):
        text.TokenizerPair.load(tmp_path)
