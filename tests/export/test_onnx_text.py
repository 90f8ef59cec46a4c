"""The ONNX graph that takes a string: the answers of the graph of ids, for the texts that it reads alike."""

import copy
import random
import string
import sys

import numpy as np
import onnx
import onnxruntime
import onnxruntime_extensions
import pytest
from onnx import TensorProto, helper

import tfzoo
from tests.export.artifacts import S_MAX, SENTENCES, random_model
from tfzoo.errors import ArtifactMismatch, UsageError
from tfzoo.export import onnx_text
from tfzoo.export.onnx_graphs import write_onnx
from tfzoo.export.tokenizer_vectors import read_vectors, write_vectors
from tfzoo.models.config import BertConfig
from tfzoo.runtime import onnx_names
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import Head
from tfzoo.runtime.onnx import EncoderBackend
from tfzoo.text import WordPieceTokenizer, pair
from tfzoo.text.special_tokens import BERT_TOKENS

IDEOGRAPHS = "清晨的雾还没有散"


@pytest.fixture(scope="module")
def tokenizers():
    """With lower case, and without; each spells every word of letters and digits, and most of ASCII's punctuation."""
    letters = string.ascii_letters + string.digits
    texts = [*SENTENCES, letters, letters[::-1], *string.punctuation, *IDEOGRAPHS, "é à ü", "、。"]
    return [WordPieceTokenizer.train(texts * 2, 300, lowercase=lowercase) for lowercase in (True, False)]


def ids_of(tokenizer):
    """A function of a text: the ids that the operator gives it."""
    head = Head(task="text_embedding", max_length=S_MAX)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, "length"])
        for name in onnx_names.ENCODER_INPUTS.values()
    ]
    graph = helper.make_graph(
        onnx_text._tokenization(head, tokenizer),
        "tokenizer",
        [helper.make_tensor_value_info("text", TensorProto.STRING, [1])],
        outputs,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.contrib", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def ids(text):
        token_ids, mask, segments = session.run(None, {"text": np.array([text], object)})
        assert mask.all()
        assert not segments.any()
        return token_ids[0].tolist()

    return ids


def expected_ids(tokenizer, text):
    return [tokenizer.start_id, *tokenizer.encode(text)[: S_MAX - 2], tokenizer.end_id]


def test_texts_that_are_read_alike_get_the_ids_of_the_tokenizer(tokenizers):
    generator = random.Random(0)
    alphabet = string.printable + string.ascii_letters * 3 + " " * 40 + "\x01\x1b" + IDEOGRAPHS * 4 + "、。"
    for tokenizer in tokenizers:
        ids = ids_of(tokenizer)
        texts = ["".join(generator.choices(alphabet, k=generator.randrange(60))) for _ in range(2000)]
        alike = [text for text in texts if onnx_text.is_read_alike(text, tokenizer)]
        assert len(alike) > 1000
        for text in [*alike, *SENTENCES, "", " \t\n", "a" * 100]:
            assert ids(text) == expected_ids(tokenizer, text), text


def test_the_rule_leaves_out_what_differs(tokenizers):
    tokenizer = tokenizers[0]
    ids = ids_of(tokenizer)
    for text in ("a\x00b", "a\x7fb", "dog\u0144", "dog\u0e31", "\u2028"):
        assert ids(text) != expected_ids(tokenizer, text)
        assert not onnx_text.is_read_alike(text, tokenizer)
    small = WordPieceTokenizer([*BERT_TOKENS, "ab"])
    assert small.encode("abb") == [small.unk_id]
    assert ids_of(small)("abb") != expected_ids(small, "abb")
    assert not onnx_text.is_read_alike("abb", small)
    assert onnx_text.is_read_alike("ab", small)


LABELS = ("bad", "größe", "so so")
FIELDS = {
    "single_label": {"labels": LABELS},
    "multi_label": {"labels": LABELS, "problem": "multi_label"},
    "regression": {"problem": "regression"},
    "text_embedding": {"task": "text_embedding"},
    "two_texts": {"labels": LABELS, "num_texts": 2},
    "words": {"labels": LABELS, "task": "token_classification"},
}


def tiny(name):
    """(model, its tokenizers)."""
    tokenizer = pair(WordPieceTokenizer.train(SENTENCES * 2, 70))
    ids = ("vocabulary_size", "pad_id", "start_id", "end_id", "mask_id")
    sizes = {"hidden_dim": 12, "intermediate_dim": 14, "num_layers": 1, "num_heads": 2, "max_sequence_length": S_MAX}
    fields = {"task": "text_classification", **{one: getattr(tokenizer.source, one) for one in ids}, **sizes}
    return random_model(BertConfig(**fields | FIELDS[name]), 3, embedding=1.0, other=0.7), tokenizer


@pytest.fixture
def text_graph(request, tmp_path):
    """(what an export writes that the proof reads, the encoder of ids) of the model with the name."""
    model, tokenizer = tiny(request.param)
    tokenizer.save(tmp_path)
    write_vectors(tmp_path, tokenizer, SENTENCES)
    write_onnx(model, str(tmp_path))
    encoder = Encoder(EncoderBackend(tmp_path, tokenizer, S_MAX), tokenizer, Head.of(model.config))
    onnx_text.write_onnx_text(tmp_path, encoder.head, encoder.pieces)
    return tmp_path, encoder


def golden_of(encoder, *texts):
    return {"texts": [*texts], "served": encoder.served(texts)}


@pytest.mark.parametrize("text_graph", [*FIELDS][:4], indirect=True)
def test_a_text_gets_the_answer_of_its_ids(text_graph):
    directory, encoder = text_graph
    proof = onnx_text.check_onnx_text(directory, encoder, golden_of(encoder, "the dog", "", "where does it go: Größe"))
    vectors = read_vectors(directory)["tokenizer.json"]["encode"]
    assert proof["golden_texts"] == 2
    assert 60 < proof["vectors"] < len(vectors)
    assert proof["left_out"] == 3 + len(vectors) - 2 - proof["vectors"]
    assert proof["max_score_difference"] < 1e-5
    (output,) = onnx.load(directory / "onnx/model_text.onnx").graph.output
    assert output.name == ("sentence_embedding" if encoder.task == "text_embedding" else "scores")


@pytest.mark.parametrize("text_graph", ["single_label"], indirect=True)
def test_another_answer_is_found(text_graph):
    directory, encoder = text_graph
    golden = golden_of(encoder, "the dog")
    changed = copy.deepcopy(golden)
    changed["served"]["scores"][0][0] += 0.01
    with pytest.raises(ArtifactMismatch, match="onnx_text for 'the dog': `scores` differs by 0.01"):
        onnx_text.check_onnx_text(directory, encoder, changed)
    with pytest.raises(ArtifactMismatch, match="onnx_text cannot be proved: none of "):
        onnx_text.check_onnx_text(directory, encoder, golden_of(encoder, "", "Größe"))
    path = directory / "onnx/model_text.onnx"
    model = onnx.load(path)
    (vocabulary,) = (one for one in model.graph.node[0].attribute if one.name == "vocab_file")
    vocabulary.s = b"\n".join(sorted(vocabulary.s.splitlines())) + b"\n"
    onnx.save(model, path)
    with pytest.raises(ArtifactMismatch, match="onnx_text for "):
        onnx_text.check_onnx_text(directory, encoder, golden)


@pytest.mark.parametrize(
    ("name", "formats", "message"),
    [
        ("two_texts", ("onnx", "onnx_text"), "one text .* this one is for 'text_classification' of 2 texts. Leave"),
        ("words", ("onnx", "onnx_text"), "this one is for 'token_classification' of 1 text. Leave it out"),
        ("single_label", ("saved_model", "onnx_text"), "made of 'onnx'; add it, received"),
        ("single_label", ("onnx", "onnx_texts"), r"knows saved_model, onnx, onnx_text; .* Did you mean 'onnx_text'\?"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(name, formats, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        tfzoo.export(*tiny(name), tmp_path / "model", formats)
    assert not list(tmp_path.iterdir())


def test_the_package_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(UsageError, match=r"pip install 'tfzoo\[onnx_text\]', or export without it"):
        tfzoo.export(*tiny("single_label"), tmp_path / "model", ("onnx", "onnx_text"))
    assert not list(tmp_path.iterdir())
