"""The artifact of a recurrent encoder-decoder: its graphs, and that every runtime answers as Keras, row by row."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.export.artifacts import MAX_LENGTH, S_MAX
from tests.tolerances import tolerance
from tfzoo import runs
from tfzoo.errors import ArtifactMismatch
from tfzoo.export.onnx_passes import count_operators
from tfzoo.export.saved_model import signature_table
from tfzoo.runtime import onnx_names

pytestmark = pytest.mark.xdist_group("gru_seq2seq")

SEARCHES = {
    "greedy": {},
    "beams": {"num_beams": 3, "num_return_sequences": 3},
    "samples": {"temperature": 1.1, "top_p": 0.9, "seed": 5, "num_return_sequences": 2},
    "reweighted": {"min_length": 4, "repetition_penalty": 1.6},
}


@pytest.fixture(scope="module")
def exported(exported_gru_seq2seq):
    return exported_gru_seq2seq


def session(exported, path):
    return onnxruntime.InferenceSession(exported.directory / path, providers=["CPUExecutionProvider"])


def describe(values):
    return {value.name: (value.type, value.shape) for value in values}


@pytest.mark.parametrize("runtime", ["saved_model", "onnx"])
@pytest.mark.parametrize("search", SEARCHES)
def test_every_runtime_answers_as_keras(exported, runtime, search):
    expected = list(exported.runtimes["keras"].generate(exported.texts, **SEARCHES[search]))
    found = list(exported.runtimes[runtime].generate(exported.texts, **SEARCHES[search]))
    assert len({predictions[0].output for predictions in expected}) > 3  # the answers differ from text to text
    for ours, theirs in zip(found, expected, strict=True):
        assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
        assert [one.output for one in ours] == [one.output for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=0, atol=tolerance("onnx_logits"))


def test_a_text_gets_alone_what_it_gets_among_others(exported):
    for predictor in exported.runtimes.values():
        together = list(predictor.generate(exported.texts))
        for text, expected in zip(exported.texts, together, strict=True):
            ((alone,),) = predictor.generate([text])
            assert alone.token_ids == expected[0].token_ids


@pytest.mark.parametrize("runtime", ["keras", "saved_model", "onnx"])
def test_logits_of_a_batch_of_mixed_lengths_equal_each_row_alone(exported, runtime):
    backend = exported.runtimes[runtime].backend
    lengths, generator = [S_MAX, 1, 6, 13], np.random.default_rng(0)
    source = generator.integers(4, 18, (4, S_MAX)).astype(np.int32)
    inputs = {
        "encoder_token_ids": np.where(np.arange(S_MAX) < np.array(lengths)[:, np.newaxis], source, 0),
        "decoder_token_ids": generator.integers(0, 23, (4, 9)).astype(np.int32),
    }
    together = backend.logits(inputs)
    expected = exported.model(inputs).numpy()
    atol = tolerance("onnx_logits") * max(1, np.abs(expected).max())
    np.testing.assert_allclose(together, expected, rtol=0, atol=atol)
    for row, length in enumerate(lengths):
        alone = {
            "encoder_token_ids": inputs["encoder_token_ids"][row : row + 1, :length],
            "decoder_token_ids": inputs["decoder_token_ids"][row : row + 1],
        }
        np.testing.assert_allclose(backend.logits(alone), together[row : row + 1], rtol=0, atol=atol)


@pytest.mark.parametrize(("batch", "source", "target"), [(1, 1, 1), (1, S_MAX, 1), (5, 1, S_MAX), (4, 6, 3)])
def test_onnx_logits_on_unseen_shapes(exported, batch, source, target):
    """Whole, which is a loop in the graph, and token by token."""
    generator = np.random.default_rng(batch + source + target)
    probe = {
        "encoder_token_ids": generator.integers(4, 18, (batch, source), np.int32),
        "decoder_token_ids": generator.integers(0, 23, (batch, target), np.int32),
    }
    for row in range(1, batch):
        probe["encoder_token_ids"][row, max(1, source - row) :] = 0
    expected = exported.predictor.backend.logits(probe)
    onnx_backend = exported.runtimes["onnx"].backend
    atol = tolerance("onnx_logits") * max(1, np.abs(expected).max())
    np.testing.assert_allclose(onnx_backend.logits(probe), expected, rtol=0, atol=atol)
    np.testing.assert_allclose(onnx_backend.stepwise_logits(probe), expected, rtol=0, atol=atol)


class TestGraphs:
    def test_the_encoder_reads_and_writes_literally_this(self, exported):
        encoder = session(exported, onnx_names.ENCODER)
        ids = ("tensor(int64)", ["batch", "encoder_sequence_length"])
        assert describe(encoder.get_inputs()) == {"input_ids": ids, "attention_mask": ids}
        assert describe(encoder.get_outputs()) == {
            "present.0.decoder.hidden": ("tensor(float)", ["batch", 18]),
            "present.1.decoder.hidden": ("tensor(float)", ["batch", 18]),
            "present.0.encoder.key": ("tensor(float)", ["batch", "encoder_sequence_length", 18]),
            "present.0.encoder.value": ("tensor(float)", ["batch", "encoder_sequence_length", 36]),
        }

    def test_the_decoder_reads_and_writes_literally_this(self, exported):
        decoder = session(exported, onnx_names.DECODER)
        assert describe(decoder.get_inputs()) == {
            "input_ids": ("tensor(int64)", ["batch", "decoder_sequence_length"]),
            "encoder_attention_mask": ("tensor(int64)", ["batch", "encoder_sequence_length"]),
            "past_states.0.decoder.hidden": ("tensor(float)", ["batch", 18]),
            "past_states.1.decoder.hidden": ("tensor(float)", ["batch", 18]),
            "past_key_values.0.encoder.key": ("tensor(float)", ["batch", "encoder_sequence_length", 18]),
            "past_key_values.0.encoder.value": ("tensor(float)", ["batch", "encoder_sequence_length", 36]),
        }
        assert describe(decoder.get_outputs()) == {
            "logits": ("tensor(float)", ["batch", "decoder_sequence_length", 23]),
            "present.0.decoder.hidden": ("tensor(float)", ["batch", 18]),
            "present.1.decoder.hidden": ("tensor(float)", ["batch", 18]),
        }

    def test_every_layer_is_onnx_own_operator(self, exported):
        def counts(path):
            counted = count_operators(onnx.load(exported.directory / path))
            return [counted.get(name, 0) for name in ("GRU", "Loop")]

        assert counts(onnx_names.ENCODER) == [2, 0]
        assert counts(onnx_names.DECODER) == [2, 1]
        assert counts(onnx_names.GENERATE) == [4, 1]
        encoder = onnx.load(exported.directory / onnx_names.ENCODER).graph
        for node in (node for node in encoder.node if node.op_type == "GRU"):
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            assert (attributes["direction"], attributes["linear_before_reset"]) == (b"bidirectional", 1)
            assert node.input[4]  # the lengths of the rows

    def test_the_loop_of_a_consumer_gives_the_greedy_answer(self, exported):
        encoder, decoder = (session(exported, path) for path in (onnx_names.ENCODER, onnx_names.DECODER))
        source = np.array([[*exported.tokenizer.source.encode("abc"), exported.tokenizer.source.end_id]])
        ones = np.ones_like(source)

        def run(model, feed):
            return dict(zip([value.name for value in model.get_outputs()], model.run(None, feed), strict=True))

        found = run(encoder, {"input_ids": source, "attention_mask": ones})
        state = {value.name: found["present." + value.name.split(".", 1)[1]] for value in decoder.get_inputs()[2:]}
        token_ids = [exported.tokenizer.target.start_id]
        while len(token_ids) <= MAX_LENGTH and token_ids[-1] != exported.tokenizer.target.end_id:
            found = run(decoder, {"input_ids": np.array([token_ids[-1:]]), "encoder_attention_mask": ones} | state)
            for name in state:
                state[name] = found.get("present." + name.split(".", 1)[1], state[name])
            token_ids.append(int(found["logits"][0, -1].argmax()))
        assert exported.tokenizer.target.decode(token_ids) == exported.predictor(["abc"])[0]


def test_the_saved_model_has_the_signatures_of_a_seq2seq_model(exported):
    table = signature_table(exported.directory / "1")
    assert set(table) == {"serving_default", "generate", "tokens", "tokenize", "detokenize"}
    assert set(table["tokens"]["inputs"]) == {"encoder_token_ids", "decoder_token_ids"}


def test_the_configuration_names_no_architecture_of_other_projects(exported):
    config = json.loads((exported.directory / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["is_encoder_decoder"], config["vocab_size"]) == ("gru_seq2seq", True, 23)
    assert config["decoder_start_token_id"] == exported.tokenizer.target.start_id
    assert "architectures" not in config


def test_the_card_says_how_to_call_it(exported):
    card = (exported.directory / "README.md").read_text(encoding="utf-8")
    assert "present.*" in card
    assert "use_cache_branch" not in card
    assert "ORTModelForSeq2SeqLM" not in card


class TestVerify:
    def test_it_passes_again(self, exported):
        assert set(runs.verify(exported.directory)) >= {"saved_model", "onnx"}

    def test_it_bites(self, exported, tmp_path):
        artifact = exported.copy(tmp_path / "model")
        path = artifact / onnx_names.ENCODER
        model = onnx.load(path)
        (weight,) = (tensor for tensor in model.graph.initializer if list(tensor.dims) == [2, 54, 14])
        values = onnx.numpy_helper.to_array(weight).copy()
        values[1, 3, 5] += 0.5
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)
        with pytest.raises(ArtifactMismatch, match="encoder_model"):
            runs.verify(artifact)
