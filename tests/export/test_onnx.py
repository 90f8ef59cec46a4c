"""The ONNX promise: graphs with literal names that ONNX Runtime opens and that answer as Keras does, at any shape."""

import dataclasses
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from tests.export.artifacts import MAX_LENGTH, S_MAX
from tests.tolerances import tolerance
from tfzoo.errors import ArtifactError
from tfzoo.export import onnx_passes
from tfzoo.export.onnx import ALLOWED_OPERATORS, check, convert
from tfzoo.runtime import onnx_names
from tfzoo.runtime.predictor import row_options

pytestmark = pytest.mark.xdist_group("artifacts")

VECTOR = {"x": tf.TensorSpec((None,), tf.float32)}
VECTOR_AXES = {"x": ("length",), "y": ("length",)}


def session(exported, path):
    return onnxruntime.InferenceSession(exported.directory / path, providers=["CPUExecutionProvider"])


def describe(values):
    return {value.name: (value.type, value.shape) for value in values}


def cache(exported, prefix, own_length, memory_length):
    """Names and shapes of every past or present key and value, in their order."""
    config = exported.model.config
    heads, width = config.num_heads, config.hidden_dim // config.num_heads
    return {
        f"{prefix}.{layer}.{part}.{kind}": ("tensor(float)", ["batch", heads, length, width])
        for layer in range(2)
        for part, length in (("decoder", own_length), ("encoder", memory_length))
        for kind in ("key", "value")
    }


# Hugging Face's clients bind int64, and not all of them cast.
SOURCE = ("tensor(int64)", ["batch", "encoder_sequence_length"])


def test_the_encoder_reads_and_writes_literally_this(exported):
    encoder = session(exported, "onnx/encoder_model.onnx")
    memory = ["batch", "encoder_sequence_length", exported.model.config.hidden_dim]
    assert describe(encoder.get_inputs()) == {"input_ids": SOURCE, "attention_mask": SOURCE}
    assert describe(encoder.get_outputs()) == {"last_hidden_state": ("tensor(float)", memory)}


def test_the_decoder_reads_and_writes_literally_this(exported):
    decoder = session(exported, "onnx/decoder_model_merged.onnx")
    config = exported.model.config
    inputs = {
        "input_ids": ("tensor(int64)", ["batch", "decoder_sequence_length"]),
        "encoder_attention_mask": SOURCE,
        "encoder_hidden_states": ("tensor(float)", ["batch", "encoder_sequence_length", config.hidden_dim]),
        **cache(exported, "past_key_values", "past_decoder_sequence_length", "encoder_sequence_length_out"),
        "use_cache_branch": ("tensor(bool)", [1]),
    }
    outputs = {
        "logits": ("tensor(float)", ["batch", "decoder_sequence_length", config.vocabulary_size]),
        **cache(exported, "present", "present_decoder_sequence_length", "encoder_sequence_length"),
    }
    assert describe(decoder.get_inputs()) == inputs
    assert [value.name for value in decoder.get_inputs()] == [*inputs]
    assert describe(decoder.get_outputs()) == outputs


def test_the_search_reads_and_writes_literally_this(exported):
    search = session(exported, "onnx/generate.onnx")
    inputs = {
        "input_ids": ("tensor(int32)", SOURCE[1]),
        "attention_mask": ("tensor(int32)", SOURCE[1]),
        "max_length": ("tensor(int32)", ["batch"]),
        "min_length": ("tensor(int32)", ["batch"]),
        "num_beams": ("tensor(int32)", ["batch"]),
        "length_penalty": ("tensor(float)", ["batch"]),
        "repetition_penalty": ("tensor(float)", ["batch"]),
        "temperature": ("tensor(float)", ["batch"]),
        "top_k": ("tensor(int32)", ["batch"]),
        "top_p": ("tensor(float)", ["batch"]),
        "seed": ("tensor(int32)", ["batch"]),
    }
    assert describe(search.get_inputs()) == inputs
    assert [value.name for value in search.get_inputs()] == [*inputs]
    assert describe(search.get_outputs()) == {
        "sequences": ("tensor(int32)", ["batch", "num_hypotheses", "sequence_length"]),
        "log_probs": ("tensor(float)", ["batch", "num_hypotheses", "sequence_length"]),
        "scores": ("tensor(float)", ["batch", "num_hypotheses"]),
    }


@pytest.mark.parametrize("path", [onnx_names.ENCODER, onnx_names.DECODER, onnx_names.GENERATE])
def test_every_graph_is_valid_opset_18_of_allowed_operators(exported, path):
    model = onnx.load(exported.directory / path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    counts = onnx_passes.count_operators(model)
    assert set(counts) <= ALLOWED_OPERATORS
    recorded = exported.manifest["onnx"][path]
    assert (recorded["opset"], recorded["operators"]) == (18, counts)


def test_the_search_loop_carries_no_weight(exported):
    graph = onnx.load(exported.directory / onnx_names.GENERATE).graph
    weights = {tensor.name for tensor in graph.initializer if np.prod(tensor.dims) >= exported.model.config.hidden_dim}
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    assert weights
    assert not weights & set(loop.input)
    assert onnx_passes.hoist_loop_invariants(graph) == 0


@pytest.mark.parametrize(
    ("batch", "source", "target"), [(1, 1, 1), (1, S_MAX, 1), (5, 1, S_MAX), (2, S_MAX, S_MAX), (4, 6, 3)]
)
def test_unseen_shapes_equal_keras(exported, batch, source, target):
    """Whole and token by token; rows are padded at different places, and one is nothing but padding and an end."""
    generator = np.random.default_rng(batch + source + target)
    probe = {
        "encoder_token_ids": generator.integers(4, 18, (batch, source), np.int32),
        "decoder_token_ids": generator.integers(0, 23, (batch, target), np.int32),
    }
    for row in range(1, batch):
        probe["encoder_token_ids"][row, max(1, source - row) :] = 0
    probe["encoder_token_ids"][-1, 1:] = 0
    expected = exported.predictor.backend.logits(probe)
    onnx_backend = exported.runtimes["onnx"].backend
    atol = tolerance("onnx_logits") * max(1, np.abs(expected).max())
    np.testing.assert_allclose(onnx_backend.logits(probe), expected, rtol=0, atol=atol)
    np.testing.assert_allclose(onnx_backend.stepwise_logits(probe), expected, rtol=0, atol=atol)


def test_padding_is_said_by_the_mask_too(exported):
    """Hugging Face's callers pad with any id and say so in the mask."""
    encoder = session(exported, onnx_names.ENCODER)
    ids = np.array([[5, 6, 3], [7, 3, 0]], np.int64)
    mask = np.array([[1, 1, 1], [1, 1, 0]], np.int64)
    (expected,) = encoder.run(None, {"input_ids": ids, "attention_mask": mask})
    other = np.where(mask, ids, 9)
    (found,) = encoder.run(None, {"input_ids": other, "attention_mask": mask})
    np.testing.assert_array_equal(found, expected)
    (unmasked,) = encoder.run(None, {"input_ids": other, "attention_mask": np.ones_like(mask)})
    assert np.abs(unmasked - expected).max() > 0.01


class TestDecoder:
    """`decoder_model_merged.onnx` as Hugging Face's loops drive it."""

    @pytest.fixture
    def feed(self, exported):
        """The first call's inputs without the past, the past's shapes, and Keras' logits."""
        ids = np.array([[5, 6, 7, 3], [8, 3, 0, 0]], np.int64)
        mask = (ids != 0).astype(np.int64)
        tokens = np.array([[2, 9, 10, 11, 12], [2, 13, 9, 9, 4]], np.int64)
        (memory,) = session(exported, onnx_names.ENCODER).run(None, {"input_ids": ids, "attention_mask": mask})
        feed = {"input_ids": tokens, "encoder_attention_mask": mask, "encoder_hidden_states": memory}
        logits = exported.predictor.backend.logits({"encoder_token_ids": ids, "decoder_token_ids": tokens})
        return feed, logits

    def past(self, decoder, length, fill=0.0):
        shapes = {value.name: value.shape for value in decoder.get_inputs() if value.name.startswith("past")}
        return {
            name: np.full((2, heads, length, width), fill, np.float32) for name, (_, heads, _, width) in shapes.items()
        }

    @pytest.mark.parametrize("length", [0, 1, 4])
    def test_the_first_call_ignores_the_past(self, exported, feed, length):
        """transformers.js and optimum send one that is empty, or one position of nothing."""
        decoder = session(exported, onnx_names.DECODER)
        names = [value.name for value in decoder.get_outputs()]
        inputs, logits = feed
        past = self.past(decoder, length, fill=7.0)
        found = decoder.run(names, {**inputs, **past, "use_cache_branch": np.array([False])})
        found = dict(zip(names, found, strict=True))
        atol = tolerance("onnx_logits") * max(1, np.abs(logits).max())
        np.testing.assert_allclose(found["logits"], logits, rtol=0, atol=atol)
        assert found["present.1.decoder.key"].shape[2] == 5
        assert found["present.1.encoder.key"].shape[2] == 4
        again = decoder.run(names, {**inputs, **self.past(decoder, 0), "use_cache_branch": np.array([False])})
        for value, other in zip(found.values(), again, strict=True):
            np.testing.assert_array_equal(value, other)

    @pytest.mark.parametrize("split", [1, 3])
    def test_a_later_call_goes_on_from_the_past(self, exported, feed, split):
        """The source's keys then come from the past alone: the encoder's states may be rubbish."""
        decoder = session(exported, onnx_names.DECODER)
        names = [value.name for value in decoder.get_outputs()]
        inputs, logits = feed
        first = {**inputs, "input_ids": inputs["input_ids"][:, :split]}
        found = decoder.run(names, {**first, **self.past(decoder, 0), "use_cache_branch": np.array([False])})
        found = dict(zip(names, found, strict=True))
        past = {name.replace("present", "past_key_values"): found[name] for name in names if name != "logits"}
        rest = {
            **inputs,
            "input_ids": inputs["input_ids"][:, split:],
            "encoder_hidden_states": np.full_like(inputs["encoder_hidden_states"], 1e6),
        }
        later = dict(
            zip(names, decoder.run(names, {**rest, **past, "use_cache_branch": np.array([True])}), strict=True)
        )
        both = np.concatenate([found["logits"], later["logits"]], axis=1)
        atol = tolerance("onnx_logits") * max(1, np.abs(logits).max())
        np.testing.assert_allclose(both, logits, rtol=0, atol=atol)
        assert later["present.0.decoder.value"].shape[2] == 5
        np.testing.assert_array_equal(later["present.0.encoder.value"], found["present.0.encoder.value"])


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 1},
        {"max_length": S_MAX},
        {"num_beams": 5, "length_penalty": 1.3, "max_length": S_MAX},
        {"temperature": 2.0, "seed": 11, "max_length": S_MAX},
    ],
    ids=str,
)
def test_the_search_finds_what_keras_finds(exported, options):
    """One source alone, of one token, and many; up to the longest target."""
    decoding = dataclasses.replace(exported.predictor.decoding, num_beams=1)
    rows = dataclasses.replace(decoding, **options)
    for texts in (exported.texts, [""], [exported.texts[4]]):
        expected = exported.predictor.backend.generate(texts, row_options(rows, len(texts)))
        found = exported.runtimes["onnx"].backend.generate(texts, row_options(rows, len(texts)))
        assert found.outputs == expected.outputs
        np.testing.assert_array_equal(found.token_ids, expected.token_ids)
        assert found.token_ids.dtype == np.int32
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=tolerance("onnx_logits"))


class TestConvert:
    def test_an_operator_that_consumers_do_not_run_is_named(self):
        with pytest.raises(ArtifactError, match=r"holds Sinh, which consumers are not known to run"):
            convert(lambda x: {"y": tf.sinh(x)}, VECTOR, VECTOR_AXES)

    def test_one_inside_a_loop_is_found_too(self):
        def function(x):
            count, y = tf.while_loop(lambda i, y: i < tf.size(x), lambda i, y: (i + 1, tf.sinh(y)), (0, x))
            return {"y": y}

        with pytest.raises(ArtifactError, match="holds Sinh, Size, which"):
            convert(function, VECTOR, VECTOR_AXES)

    @pytest.mark.parametrize(
        ("name", "function"),
        [
            ("Lgamma", lambda x: {"y": tf.math.lgamma(x)}),
            ("StatelessMultinomial", lambda x: {"y": tf.random.stateless_categorical(x[tf.newaxis], 3, [1, 2])[0]}),
            ("RegexFullMatch", lambda x: {"y": tf.strings.regex_full_match(tf.strings.as_string(x), "1.*")}),
        ],
    )
    def test_an_operator_that_does_not_convert_is_named(self, name, function):
        """tf2onnx by itself writes the file and reports success."""
        with pytest.raises(ArtifactError, match=name):
            convert(function, VECTOR, VECTOR_AXES)

    def test_an_input_that_the_graph_does_not_read_stays(self):
        """A consumer feeds every input by its name, and ONNX Runtime refuses one that it does not know."""
        inputs = {"unused": tf.TensorSpec((None,), tf.int32)} | VECTOR
        model = convert(lambda unused, x: {"y": x + 1}, inputs, VECTOR_AXES | {"unused": ("length",)})
        runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feed = {"unused": np.zeros(2, np.int32), "x": np.array([1, 2], np.float32)}
        np.testing.assert_array_equal(runtime.run(None, feed)[0], [2, 3])

    def test_axes_that_the_graph_does_not_have_are_refused(self):
        with pytest.raises(ArtifactError, match="invalid"):
            convert(lambda x: {"y": tf.stack([x, x])}, VECTOR, {"x": ("length",), "y": (3, "length")})

    def test_inputs_and_outputs_keep_names_with_dots_and_the_order_of_inputs(self):
        inputs = {name: tf.TensorSpec((None,), tf.float32) for name in ("z.10", "a.9", "m")}
        model = convert(
            lambda z, a, m: {"out.1": z - a, "out.0": m * 2},
            inputs,
            {name: ("n",) for name in (*inputs, "out.0", "out.1")},
        )
        runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert [value.name for value in runtime.get_inputs()] == ["z.10", "a.9", "m"]
        feed = {name: np.array([value], np.float32) for name, value in (("z.10", 10), ("a.9", 9), ("m", 4))}
        assert runtime.run(["out.0", "out.1"], feed) == [np.array([8.0]), np.array([1.0])]

    def test_a_checker_of_the_graph_refuses_a_foreign_domain(self):
        model = convert(lambda x: {"y": x + 1}, VECTOR, VECTOR_AXES)
        check(model)
        model.opset_import.add(domain="com.microsoft", version=1)
        model.graph.node[0].domain = "com.microsoft"
        with pytest.raises(ArtifactError, match=r"com\.microsoft::Add|invalid"):
            check(model)

    def test_nothing_is_logged(self, caplog):
        tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), 0)  # as a symbol tokenizer makes
        with caplog.at_level(logging.WARNING):
            convert(lambda x: {"y": x + 1}, VECTOR, VECTOR_AXES)
        assert caplog.records == []


def test_the_defaults_of_this_file_are_those_of_the_artifacts(exported):
    assert exported.manifest["max_length"] == S_MAX
    assert exported.manifest["decoding"]["max_length"] == MAX_LENGTH
