"""The artifacts of the two language models: what their signatures and graphs are, and that they answer as Keras."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from tests.export.artifacts import MAX_LENGTH, S_MAX
from tests.tolerances import tolerance
from tfzoo import runs
from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.errors import ArtifactMismatch, UsageError
from tfzoo.export.onnx_passes import count_operators
from tfzoo.export.saved_model import signature_table
from tfzoo.export.served_model import ServedModel
from tfzoo.runtime import onnx_names
from tfzoo.runtime.predictor import row_options

pytestmark = pytest.mark.xdist_group("language_models")

SEARCHES = {
    "default": {},
    "greedy": {"temperature": 0.0},
    "beams": {"temperature": 0.0, "num_beams": 3, "num_return_sequences": 3},
    "samples": {"temperature": 1.1, "top_p": 0.9, "seed": 5, "num_return_sequences": 2},
    "reweighted": {"temperature": 0.0, "min_length": 4, "repetition_penalty": 1.6},
}


@pytest.mark.parametrize("runtime", ["saved_model", "onnx"])
@pytest.mark.parametrize("search", SEARCHES)
def test_every_runtime_answers_as_keras(language_model, runtime, search):
    texts = language_model.texts
    expected = list(language_model.runtimes["keras"].generate(texts, **SEARCHES[search]))
    found = list(language_model.runtimes[runtime].generate(texts, **SEARCHES[search]))
    assert len({predictions[0].output for predictions in expected}) > 3  # the answers differ from prompt to prompt
    for ours, theirs in zip(found, expected, strict=True):
        assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
        assert [one.output for one in ours] == [one.output for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=0, atol=tolerance("onnx_logits"))


def test_a_prompt_gets_alone_what_it_gets_among_others(language_model):
    for predictor in language_model.runtimes.values():
        together = list(predictor.generate(language_model.texts, temperature=0.0))
        for text, expected in zip(language_model.texts, together, strict=True):
            ((alone,),) = predictor.generate([text], temperature=0.0)
            assert alone.token_ids == expected[0].token_ids


class TestStream:
    @pytest.mark.parametrize("runtime", ["keras", "onnx"])
    @pytest.mark.parametrize(
        "options", [{"temperature": 0.0}, {"temperature": 0.9, "seed": 4}, {"stop": ("e",), "repetition_penalty": 1.3}]
    )
    def test_the_pieces_are_the_answer(self, language_model, runtime, options):
        predictor = language_model.runtimes[runtime]
        for text in language_model.texts:
            pieces = list(predictor.stream(text, **options))
            assert ["".join(pieces)] == predictor([text], **options)
            assert all(pieces)

    def test_it_comes_before_the_end(self, language_model):
        predictor = language_model.runtimes["keras"]
        assert max(len(list(predictor.stream(text, temperature=0.0, stop=()))) for text in language_model.texts) > 2

    def test_what_cannot_come_in_pieces_is_refused(self, language_model):
        with pytest.raises(UsageError) as error:
            language_model.runtimes["onnx"].stream("a", temperature=0.0, num_beams=2)
        assert str(error.value) == (
            "one hypothesis can be shown as it comes: set `num_beams=1` and `num_return_sequences=1`; received "
            "num_beams=2, num_return_sequences=1."
        )
        with pytest.raises(UsageError, match="a SavedModel answers in one piece; use the runtime onnx"):
            language_model.runtimes["saved_model"].stream("a")


class TestPrompts:
    def test_an_empty_one_is_what_stands_before_a_document(self, language_model):
        tokenizer = language_model.tokenizer.source
        found = language_model.runtimes["saved_model"].backend.tokenize([""])
        suffix = tokenizer.encode(language_model.tokenizer.prompt_suffix)
        assert found["token_ids"].tolist() == [suffix or [tokenizer.end_id]]

    def test_a_long_one_is_refused_or_loses_its_beginning(self, language_model):
        long = language_model.texts[4]
        ids = language_model.tokenizer.source.encode(long + language_model.tokenizer.prompt_suffix)
        for predictor in language_model.runtimes.values():
            with pytest.raises(UsageError, match=f"a prompt of {len(ids)} tokens leaves no room for max_length=9 more"):
                predictor([long], truncate_prompt=False)
            kept = language_model.tokenizer.source.decode(ids[-(S_MAX - MAX_LENGTH + 1) :])
            kept = kept.removesuffix(language_model.tokenizer.prompt_suffix)
            assert predictor([long], temperature=0.0) == predictor([kept], temperature=0.0)

    def test_every_position_can_be_asked_for(self, language_model):
        for predictor in language_model.runtimes.values():
            ((prediction,),) = predictor.generate(["b"], max_length=S_MAX - 2, min_length=S_MAX - 3, temperature=0.0)
            assert len(prediction.token_ids) == S_MAX - 2


class TestSavedModel:
    def test_signatures(self, language_model):
        table = signature_table(language_model.directory / "1")
        text = {"text": {"dtype": "string", "shape": [None]}}
        ids = {"dtype": "int32", "shape": [None, None]}
        options = {name: {"dtype": dtype, "shape": [None]} for name, dtype in ROW_OPTIONS.items()}
        vocabulary_size = language_model.tokenizer.target.vocabulary_size
        assert {name: signature["inputs"] for name, signature in table.items()} == {
            "serving_default": text,
            "generate": text | options,
            "tokens": {"token_ids": ids, "padding_mask": ids},
            "tokenize": text,
            "detokenize": {"token_ids": ids},
        }
        assert table["serving_default"]["outputs"] == {
            "outputs": {"dtype": "string", "shape": [None]},
            "scores": {"dtype": "float32", "shape": [None]},
        }
        assert [*table["generate"]["outputs"]] == ["log_probs", "outputs", "scores", "token_ids"]
        logits = table["tokens"]["outputs"]["logits"]
        assert logits == {"dtype": "float32", "shape": [None, None, vocabulary_size]}

    def test_a_server_answers_as_keras(self, language_model):
        """By the default options, the stop string and the separator included."""
        request = np.array([text.encode() for text in language_model.texts], object)
        with ServedModel(language_model.directory / "1") as server:
            outputs = server.run("serving_default", {"text": request})["outputs"]
        assert [output.decode() for output in outputs] == language_model.predictor(language_model.texts)

    def test_the_served_stop_string_cut_something(self, language_model):
        stop = language_model.predictor.decoding.stop
        whole = language_model.predictor(language_model.texts, stop=())
        assert any(any(one in text for one in stop) for text in whole) == bool(stop)


class TestOnnx:
    def test_the_graphs(self, language_model):
        names = sorted(path.name for path in (language_model.directory / "onnx").iterdir())
        assert names == ["generate.onnx", "model.onnx"]
        model = onnx.load(language_model.directory / onnx_names.MODEL)
        inputs = [value.name for value in model.graph.input]
        operators = count_operators(model)
        if language_model.model.name == "gpt2":
            parts = ("past_key_values", ("key", "value"))
            assert "Loop" not in operators
        else:
            parts = ("past_states", ("hidden", "cell"))
            assert operators["LSTM"] == 2  # one native operator a layer, and no loop over time
            assert "Loop" not in operators
        past = [f"{parts[0]}.{layer}.{part}" for layer in range(2) for part in parts[1]]
        assert inputs == ["input_ids", "attention_mask", *past]
        present = {f"present.{name.split('.', 1)[1]}" for name in past}
        assert {value.name for value in model.graph.output} == {"logits", *present}

    @pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 5), (1, S_MAX)])
    def test_logits_on_unseen_shapes(self, language_model, batch, length):
        generator = np.random.default_rng(batch + length)
        token_ids = generator.integers(0, 256, (batch, length)).astype(np.int32)
        mask = np.ones_like(token_ids)
        mask[-1, 1 + length // 2 :] = 0
        inputs = {"token_ids": token_ids, "padding_mask": mask}
        expected = language_model.model(inputs).numpy()
        for name in ("saved_model", "onnx"):
            found = language_model.runtimes[name].backend.logits(inputs)
            np.testing.assert_allclose(
                found * mask[..., None], expected * mask[..., None], rtol=0, atol=tolerance("onnx_logits")
            )

    def test_a_loop_of_a_consumer_gives_the_greedy_answer(self, language_model):
        """As the model card says: plain ONNX Runtime and the files of the artifact alone."""
        session = onnxruntime.InferenceSession(language_model.directory / onnx_names.MODEL)
        outputs = [value.name for value in session.get_outputs()]
        text = language_model.texts[1]
        tokens = language_model.tokenizer.source.encode(text + language_model.tokenizer.prompt_suffix)
        past = {
            value.name: np.zeros([size if isinstance(size, int) else int(size == "batch") for size in value.shape], "f")
            for value in session.get_inputs()[2:]
        }
        mask, answer = np.zeros((1, 0), np.int64), []
        while len(answer) < MAX_LENGTH:
            mask = np.pad(mask, [(0, 0), (0, len(tokens))], constant_values=1)
            feed = {"input_ids": np.array([tokens], np.int64), "attention_mask": mask, **past}
            found = dict(zip(outputs, session.run(outputs, feed), strict=True))
            past = {name: found["present." + name.split(".", 1)[1]] for name in past}
            tokens = [int(found["logits"][0, -1].argmax())]
            answer += tokens
        ((expected,),) = language_model.predictor.generate([text], temperature=0.0)
        assert answer[: len(expected.token_ids)] == expected.token_ids


class TestHuggingFace:
    def test_the_configuration_names_the_architecture(self, language_model):
        config = json.loads((language_model.directory / "config.json").read_text(encoding="utf-8"))
        ours = language_model.model.config
        assert config["vocab_size"] == ours.vocabulary_size
        assert config["eos_token_id"] == config["pad_token_id"] == ours.end_id
        if language_model.model.name == "gpt2":
            assert (config["model_type"], config["n_positions"], config["n_layer"], config["n_inner"]) == (
                "gpt2",
                S_MAX,
                2,
                22,
            )
        generation = json.loads((language_model.directory / "generation_config.json").read_text(encoding="utf-8"))
        assert generation["max_new_tokens"] == MAX_LENGTH

    def test_tokenizers_pad_and_cut_prompts_in_front(self, language_model):
        """Where a loop goes on behind the last column of a batch, padding behind a prompt would be read."""
        config = json.loads((language_model.directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert (config["padding_side"], config["truncation_side"]) == ("left", "left")
        assert config["model_max_length"] == S_MAX

    def test_the_card_says_how_to_call_it(self, language_model):
        card = (language_model.directory / "README.md").read_text(encoding="utf-8")
        assert "pipeline_tag: text-generation" in card
        assert '"inputs": {"text": ["..."]}' in card
        assert ("ORTModelForCausalLM" in card) == (language_model.model.name == "gpt2")


class TestVerify:
    def test_it_passes_again(self, language_model):
        report = runs.verify(language_model.directory)
        assert report["onnx"]["tokenizer_vectors"] > 100
        assert report["saved_model"]["served"] == len(language_model.manifest["golden"]["texts"])
        assert report["onnx against saved_model"]["probes"][1]["max_stepwise_difference"] < tolerance("onnx_logits")

    def test_it_bites(self, language_model, tmp_path):
        """A changed weight is named, and a graph that computes something else is found without its digest."""
        copy = language_model.copy(tmp_path / "model")
        path = copy / onnx_names.MODEL
        model = onnx.load(path)
        weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        values = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)
        with pytest.raises(ArtifactMismatch) as error:
            runs.verify(copy)
        assert weight.name in str(error.value)

    def test_row_options_of_a_merged_request(self, language_model):
        """Every row its own options, as a server merges requests: each gets what it gets alone."""
        backend = language_model.runtimes["saved_model"].backend
        texts = list(language_model.texts[:4])
        rows = [
            {"num_beams": 3, "max_length": 5, "temperature": 0.0},
            {"temperature": 1.0, "seed": 2},
            {"repetition_penalty": 2.0, "temperature": 0.0},
            {"min_length": 7, "temperature": 0.0},
        ]
        configs = [language_model.predictor._config(row) for row in rows]
        options = [row_options(config, 1) for config in configs]
        merged = {name: np.concatenate([option[name] for option in options]) for name in ROW_OPTIONS}
        found = backend.generate(texts, merged)
        for row, text in enumerate(texts):
            alone = backend.generate([text], options[row])
            width = alone.token_ids.shape[2]
            assert found.token_ids[row, 0, :width].tolist() == alone.token_ids[0, 0].tolist()
            assert not np.any(found.token_ids[row, 0, width:] != language_model.model.config.pad_id)


def test_the_graph_tokenizes_prompts_as_python_does(language_model):
    texts = [*language_model.texts, "\u0000", "\ufffd" * 3, "green " * 50]
    backend = language_model.runtimes["saved_model"].backend
    for text, ids in zip(texts, backend.tokenize(texts)["token_ids"], strict=True):
        alone = backend.tokenize([text])
        assert ids[: alone["token_ids"].shape[1]].tolist() == alone["token_ids"][0].tolist()
        expected = language_model.tokenizer.source.encode(text + language_model.tokenizer.prompt_suffix)
        assert alone["token_ids"][0].tolist() == (expected or [language_model.model.config.end_id])[-S_MAX:]
        assert alone["padding_mask"].all()
        assert alone["padding_mask"].dtype == tf.int32.as_numpy_dtype
