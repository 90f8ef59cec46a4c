"""The artifacts of encoders: what their signatures and graphs are, and that they answer as Keras."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tokenizers

from tests.export.artifacts import S_MAX, SENTENCES, random_model
from tests.tolerances import tolerance
from tfzoo.errors import UsageError
from tfzoo.export import warm_up
from tfzoo.export.onnx_passes import count_operators
from tfzoo.export.outputs import TOLERANCE
from tfzoo.export.saved_model import signature_table
from tfzoo.export.served_model import ServedModel
from tfzoo.export.signatures_encoder import encoder_signatures
from tfzoo.export.tokenizer_vectors import FILE
from tfzoo.models.config import BertConfig
from tfzoo.runtime.encoder import Encoder
from tfzoo.runtime.head import Head, text_columns
from tfzoo.runtime.keras import KerasEncoderBackend
from tfzoo.runtime.saved_model import plain
from tfzoo.runtime.tasks import encode_segments

pytestmark = pytest.mark.xdist_group("encoders")

RUNTIMES = ("saved_model", "onnx")


def assert_close(found, expected):
    """The same names and texts; numbers as close as a softmax of logits within the tolerance is."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(found[name], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance("onnx_logits"))
    else:
        assert found == expected


def read_json(encoder, name):
    return json.loads((encoder.directory / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_answers_as_keras(encoder, runtime):
    expected = list(encoder.predictor.answer(encoder.texts))
    assert len({str(answer["output"]) for answer in expected}) > 2  # the answers differ from text to text
    assert_close(list(encoder.runtimes[runtime].answer(encoder.texts)), expected)


def test_a_text_gets_alone_what_it_gets_among_others(encoder):
    for predictor in encoder.runtimes.values():
        together = list(predictor.answer(encoder.texts))
        alone = [answer for text in encoder.texts for answer in predictor.answer([text])]
        assert_close(alone, together)


def test_a_server_answers_as_keras(encoder):
    """In a session, which restores variables as servers do, and alone what it gets in a merged request."""
    expected = encoder.predictor.served(encoder.texts)
    columns = text_columns(encoder.texts, encoder.predictor.head)
    with ServedModel(encoder.directory / "1") as server:
        found = {name: plain(value) for name, value in server.run("serving_default", columns).items()}
        assert_close(found, expected)
        for row in range(len(encoder.texts)):
            one = server.run("serving_default", {name: column[[row]] for name, column in columns.items()})
            for name, value in one.items():
                answer = plain(value)[0]
                whole = expected[name][row]
                assert_close(answer, whole[: len(answer)] if isinstance(whole, list) else whole)  # less padding


def test_calls_give_what_the_task_is_for(exported_by_name):
    text = exported_by_name("classifier").texts[0]
    for predictor in exported_by_name("classifier").runtimes.values():
        assert predictor([text])[0] in ("bad", "größe", "so so")
    for predictor in exported_by_name("word_classifier").runtimes.values():
        ((tagged),) = predictor(["the old dog"])
        assert [word for word, _ in tagged] == ["the", "old", "dog"]
        assert {label for _, label in tagged} <= {"O", "B-ANIMAL", "I-ANIMAL"}
    for predictor in exported_by_name("masked_lm").runtimes.values():
        (filled,) = predictor(["the [MASK] runs over"])
        assert re.fullmatch(r"the \S+ runs over", filled)
    for predictor in exported_by_name("answerer").runtimes.values():
        answers = predictor([("who runs?", SENTENCES[0]), ("who?", "")])
        assert answers[0] in SENTENCES[0]
        assert answers[1] == ""
    for predictor in exported_by_name("embedder").runtimes.values():
        vectors = predictor(SENTENCES)
        assert (vectors.shape, vectors.dtype) == ((5, 18), np.float32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_decoding_options_and_streams_are_for_models_that_generate(encoder):
    loaded = encoder.runtimes["onnx"]
    with pytest.raises(UsageError, match="num_beams"):
        loaded(["a"], num_beams=4)
    task = re.escape(repr(encoder.model.task))
    for call in (loaded.generate, loaded.stream):
        with pytest.raises(UsageError, match=f"a model for {task} generates no text; call it with a list of texts"):
            call("a")


def test_options_of_a_question_change_the_answer(exported_by_name):
    answerer = exported_by_name("answerer")
    for predictor in answerer.runtimes.values():
        assert predictor(answerer.texts, no_answer_threshold=-1e9) == [""] * len(answerer.texts)
        with pytest.raises(UsageError, match="has no option 'max_answer'. Did you mean 'max_answer_length'"):
            predictor(answerer.texts, max_answer=3)


# ---- SavedModel ----

STRING = {"dtype": "string", "shape": [None]}
IDS = {"dtype": "int32", "shape": [None, None]}
INPUTS = dict.fromkeys(("padding_mask", "segment_ids", "token_ids"), IDS)


def floats(*shape):
    return {"dtype": "float32", "shape": [None, *shape]}


def strings(*shape):
    return {"dtype": "string", "shape": [None, *shape]}


SIGNATURES = {
    "classifier": (
        {"text": STRING},
        {"labels": strings(3), "scores": floats(3)},
        {"logits": floats(3)},
        {"classes": strings(3), "scores": floats(3)},
    ),
    "pair_classifier": (
        {"text_a": STRING, "text_b": STRING},
        {"labels": strings(4), "scores": floats(4)},
        {"logits": floats(4)},
        {"classes": strings(4), "scores": floats(4)},
    ),
    "word_classifier": (
        {"text": STRING},
        {"words": strings(None), "labels": strings(None), "scores": floats(None)},
        {"logits": floats(None, 3)},
        None,
    ),
    "masked_lm": (
        {"text": STRING},
        {"outputs": STRING, "tokens": strings(None, 5), "scores": floats(None, 5)},
        {"logits": floats(None, 70)},
        None,
    ),
    "answerer": (
        {"question": STRING, "context": STRING},
        {"answers": STRING, "scores": floats(), "starts": IDS | {"shape": [None]}, "ends": IDS | {"shape": [None]}},
        {"start_logits": floats(None), "end_logits": floats(None)},
        None,
    ),
    "embedder": ({"text": STRING}, {"embeddings": floats(18)}, {"embeddings": floats(18)}, None),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(exported_by_name, name):
    encoder = exported_by_name(name)
    texts, answers, outputs, classes = SIGNATURES[name]
    expected = {
        "serving_default": {"inputs": texts, "outputs": answers},
        "tokens": {"inputs": INPUTS, "outputs": outputs},
        "tokenize": {"inputs": texts, "outputs": INPUTS},
    }
    if classes is not None:
        expected["classify"] = {"inputs": {"inputs": STRING}, "outputs": classes}
    assert encoder.tokenizer.source.vocabulary_size == 70
    assert signature_table(encoder.directory / "1") == expected


@pytest.mark.parametrize("name", ["classifier", "pair_classifier"])
def test_the_classification_api_gets_examples(exported_by_name, name):
    """As a server hands them over: serialized `tf.train.Example`s, of which it answers pairs of class and score."""
    encoder = exported_by_name(name)
    rows = []
    for text in encoder.texts:
        features = dict(zip(encoder.predictor.head.text_inputs, [text] if isinstance(text, str) else text, strict=True))
        example = tf.train.Example()
        for key, value in features.items():
            example.features.feature[key].bytes_list.value.append(value.encode())
        rows.append(example.SerializeToString())
    with ServedModel(encoder.directory / "1") as server:
        found = server.run("classify", {"inputs": np.array(rows, object)})
    expected = encoder.predictor.served(encoder.texts)
    assert_close(plain(found["classes"]), expected["labels"])
    assert_close(plain(found["scores"]), expected["scores"])


def test_a_regression_serves_its_number(exported_by_name):
    """Without an export: the signature's own function, and the model's answer in NumPy."""
    like = exported_by_name("pair_classifier")
    plain_config = {name: getattr(like.model.config, name) for name in like.model.config.__dataclass_fields__}
    config = BertConfig(**plain_config | {"problem": "regression", "labels": ()})
    model = random_model(config, 11, embedding=1.5, other=0.7)
    signatures = encoder_signatures(model, like.tokenizer, None)
    assert [*signatures] == ["serving_default", "tokens", "tokenize"]  # there are no classes
    predictor = Encoder(KerasEncoderBackend(model), like.tokenizer, Head.of(config))
    texts = [tf.constant(column) for column in text_columns(like.texts, predictor.head).values()]
    served = signatures["serving_default"].function(*texts)
    assert {name: value.shape.as_list() for name, value in served.items()} == {"scores": [len(like.texts), 1]}
    numbers = predictor(like.texts)
    assert len(set(numbers)) > 3
    np.testing.assert_allclose(served["scores"][:, 0], numbers, rtol=0, atol=tolerance("saved_model") * 10)


def test_the_graph_tokenizes_as_python_does(encoder):
    texts = [*encoder.texts, encoder.texts[1]]
    if encoder.model.task in ("text_classification", "text_embedding", "question_answering"):
        expected = encode_segments(texts, encoder.tokenizer.source, S_MAX)
        found = encoder.runtimes["saved_model"].backend.tokenize(texts)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


# ---- ONNX and Hugging Face's files ----


def test_the_graph_has_hugging_faces_names(encoder):
    model = onnx.load(encoder.directory / "onnx/model.onnx")
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {value.type.tensor_type.elem_type for value in model.graph.input} == {onnx.TensorProto.INT64}
    outputs = {
        "text_embedding": {"last_hidden_state", "sentence_embedding"},
        "question_answering": {"start_logits", "end_logits"},
    }
    assert {value.name for value in model.graph.output} == outputs.get(encoder.model.task, {"logits"})
    assert "Loop" not in count_operators(model)
    assert [path.name for path in (encoder.directory / "onnx").iterdir()] == ["model.onnx"]
    assert not (encoder.directory / "generation_config.json").exists()


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 5), (1, S_MAX)])
def test_logits_on_unseen_shapes(encoder, batch, length):
    generator = np.random.default_rng(batch + length)
    token_ids = generator.integers(0, 70, (batch, length)).astype(np.int32)
    mask = np.ones_like(token_ids)
    mask[-1, 1 + length // 2 :] = 0
    inputs = {"token_ids": token_ids, "padding_mask": mask, "segment_ids": (np.arange(length) > 2) * mask}
    expected = encoder.predictor.backend.logits(inputs)
    if encoder.model.task in ("token_classification", "fill_mask"):
        expected = expected[mask == 1]
    for name in RUNTIMES:
        found = encoder.runtimes[name].backend.logits(inputs)
        found = found[mask == 1] if encoder.model.task in ("token_classification", "fill_mask") else found
        limit = tolerance("onnx_logits") * max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def test_the_last_hidden_states_make_the_vector(exported_by_name):
    """transformers.js takes the mean itself."""
    embedder = exported_by_name("embedder")
    inputs = encode_segments(SENTENCES, embedder.tokenizer.source, S_MAX)
    session = onnxruntime.InferenceSession(embedder.directory / "onnx/model.onnx")
    names = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
    feed = {theirs: inputs[ours].astype(np.int64) for theirs, ours in names.items()}
    states, vectors = session.run(["last_hidden_state", "sentence_embedding"], feed)
    weights = inputs["padding_mask"][:, :, np.newaxis]
    means = (states * weights).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(means / np.linalg.norm(means, axis=1, keepdims=True), vectors, rtol=0, atol=1e-5)


ARCHITECTURES = {
    "classifier": ("BertForSequenceClassification", "single_label_classification"),
    "pair_classifier": ("BertForSequenceClassification", "multi_label_classification"),
    "word_classifier": ("BertForTokenClassification", None),
    "masked_lm": ("BertForMaskedLM", None),
    "answerer": ("BertForQuestionAnswering", None),
    "embedder": ("BertModel", None),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_configuration_says_what_the_graph_is(exported_by_name, name):
    encoder = exported_by_name(name)
    config = read_json(encoder, "config.json")
    assert (config["architectures"], config.get("problem_type")) == ([ARCHITECTURES[name][0]], ARCHITECTURES[name][1])
    assert (config["model_type"], config["vocab_size"], config["max_position_embeddings"]) == ("bert", 70, S_MAX)
    labels = encoder.model.config.labels
    assert [*config.get("id2label", {}).values()] == [*labels]
    assert config.get("label2id", {}) == {label: index for index, label in enumerate(labels)}
    assert read_json(encoder, "tokenizer_config.json")["model_max_length"] == S_MAX


def test_sentence_transformers_are_told_the_pooling(exported_by_name):
    embedder = exported_by_name("embedder")
    modules = read_json(embedder, "modules.json")
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    pooling = read_json(embedder, f"{modules[1]['path']}/config.json")
    assert pooling == {"word_embedding_dimension": 18, "pooling_mode_mean_tokens": True}
    assert not (exported_by_name("classifier").directory / "modules.json").exists()


def test_tokenizer_json_gives_the_ids_that_the_model_reads(exported_by_name):
    for name in ("classifier", "pair_classifier"):
        encoder = exported_by_name(name)
        reader = tokenizers.Tokenizer.from_file(str(encoder.directory / "tokenizer.json"))
        reader.enable_truncation(S_MAX)
        for text in encoder.texts[:-1]:  # the last one spells a special token, a known difference
            found = reader.encode(text) if isinstance(text, str) else reader.encode(*text)
            expected = encode_segments([text], encoder.tokenizer.source, S_MAX)
            assert [found.ids] == expected["token_ids"].tolist(), text
            assert [found.type_ids] == expected["segment_ids"].tolist(), text


def test_the_known_differences_of_word_pieces_are_said(encoder):
    known = read_json(encoder, FILE)["known_differences"]
    assert "transformers.js" in known["planes"]["readers"]
    assert "special_tokens" in known


# ---- serving kit ----


def test_the_warm_up_asks_each_signature(encoder):
    asked = {signature for signature, _ in warm_up.read_warm_up(encoder.directory / "1")}
    assert asked == encoder.manifest["saved_model"]["signatures"].keys()
    serving = encoder.manifest["proof"]["saved_model"]["serving"]
    assert serving["num_warm_up_requests"] == 2 * len(asked)


PIPELINES = {
    "classifier": "text-classification",
    "pair_classifier": "text-classification",
    "word_classifier": "token-classification",
    "masked_lm": "fill-mask",
    "answerer": "question-answering",
    "embedder": "feature-extraction",
}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_card_shows_an_answer_that_is_true(exported_by_name, name):
    encoder = exported_by_name(name)
    card = (encoder.directory / "README.md").read_text(encoding="utf-8")
    assert f"pipeline_tag: {PIPELINES[name]}\n" in card
    assert repr(encoder.texts[0]) in card
    (output,) = (answer["output"] for answer in encoder.predictor.answer(encoder.texts[:1]))
    if name in ("classifier", "masked_lm", "answerer"):
        assert repr(output) in card
    assert f"the same answers, scores within {TOLERANCE:g}," in card
    assert "search" not in card.split("## Proof")[1]
    assert max(map(len, card.splitlines())) < 160
