"""Answers from an artifact alone: by every runtime the same, and on ONNX Runtime without TensorFlow."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import tfzoo
from tests.export.artifacts import MAX_LENGTH, S_MAX
from tests.tolerances import tolerance
from tfzoo.errors import ArtifactError, UsageError
from tfzoo.runtime import Artifact, load

pytestmark = pytest.mark.xdist_group("artifacts")

CLIENT = """
import json, sys
import tfzoo
answers = {}
for directory, texts in json.load(sys.stdin).items():
    answer = tfzoo.load(directory, runtime="onnx")
    answers[directory] = {
        "best": answer(texts),
        "beams": [[p._asdict() for p in row] for row in answer.generate(texts, num_beams=4, num_return_sequences=2)],
    }
heavy = ("tensorflow", "tensorflow_text", "keras", "tf2onnx", "onnx", "torch", "jax")
print(json.dumps({"heavy": [name for name in heavy if name in sys.modules], "answers": answers}))
"""

SEARCHES = {
    "default": {},
    "greedy": {"num_beams": 1, "max_length": S_MAX},
    "beams": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.0},
    "samples": {"num_beams": 1, "temperature": 0.9, "top_k": 7, "top_p": 0.95, "num_return_sequences": 3, "seed": 2},
    "last_seed": {"num_beams": 1, "temperature": 0.9, "num_return_sequences": 2, "seed": 2**31 - 1},
    "one_token": {"max_length": 1},
}


def test_onnx_runtime_answers_in_a_process_without_tensorflow(shared_vocabulary, separate_vocabularies):
    subjects = {os.fspath(one.directory): one for one in (shared_vocabulary, separate_vocabularies)}
    client = subprocess.run(
        [sys.executable, "-W", "error", "-c", CLIENT],
        input=json.dumps({directory: one.texts for directory, one in subjects.items()}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert client.returncode == 0, client.stderr[-2000:]
    found = json.loads(client.stdout)
    assert found["heavy"] == []
    for directory, one in subjects.items():
        assert found["answers"][directory]["best"] == one.predictor(one.texts)
        expected = list(one.predictor.generate(one.texts, num_beams=4, num_return_sequences=2))
        for row, predictions in zip(found["answers"][directory]["beams"], expected, strict=True):
            assert [(p["output"], p["token_ids"]) for p in row] == [(p.output, p.token_ids) for p in predictions]


@pytest.mark.parametrize("runtime", ["saved_model", "onnx"])
@pytest.mark.parametrize("search", SEARCHES)
def test_every_runtime_answers_as_keras(exported, runtime, search):
    expected = list(exported.predictor.generate(exported.texts, **SEARCHES[search]))
    found = list(exported.runtimes[runtime].generate(exported.texts, **SEARCHES[search]))
    assert [len(row) for row in found] == [SEARCHES[search].get("num_return_sequences", 1)] * len(exported.texts)
    for row, other in zip(found, expected, strict=True):
        for prediction, reference in zip(row, other, strict=True):
            assert (prediction.output, prediction.token_ids) == (reference.output, reference.token_ids)
            assert prediction.score == pytest.approx(reference.score, rel=0, abs=tolerance("onnx_logits"))
            assert len(prediction.token_ids) <= SEARCHES[search].get("max_length", MAX_LENGTH)
            assert isinstance(prediction.score, float)


@pytest.mark.parametrize("runtime", ["keras", "saved_model", "onnx"])
class TestAnyRuntime:
    def test_more_texts_than_a_batch(self, exported, runtime):
        answer = exported.runtimes[runtime]
        texts = [f"{text}{index % 7 * 'a'}" for index, text in enumerate(exported.texts * 12)]
        assert len(texts) == 72
        together = answer(texts, num_beams=1, max_length=4)
        assert len(set(together)) > 5
        assert together == [
            best.output for (best,) in answer.generate(texts, num_beams=1, max_length=4, batch_size=len(texts))
        ]
        assert together[60:70] == answer(texts[60:70], num_beams=1, max_length=4)

    def test_a_text_longer_than_the_model_is_cut(self, exported, runtime):
        answer = exported.runtimes[runtime]
        source = exported.tokenizer.source
        long = exported.texts[4]
        assert len(source.encode(long)) > S_MAX
        kept = source.encode(long)[: S_MAX - 1]
        # Text whose ids are what is kept; SentencePiece may cut a word otherwise at its end.
        cut = next(long[:length] for length in range(len(long)) if source.encode(long[:length]) == kept)
        assert answer([long]) == answer([cut])
        assert answer([long, "a"]) == answer([cut, "a"])

    def test_strange_texts_get_an_answer(self, exported, runtime):
        texts = ["", " ", "\n\t", "\x00", "日本語 🙂", "e\u0301", "</s><pad>", "a\ufeffb"]
        answer = exported.runtimes[runtime]
        assert answer(texts) == exported.predictor(texts)
        assert answer([]) == []

    def test_two_calls_are_equal(self, exported, runtime):
        answer = exported.runtimes[runtime]
        options = {"num_beams": 1, "temperature": 1.5, "seed": 3}
        assert list(answer.generate(exported.texts, **options)) == list(answer.generate(exported.texts, **options))
        other = {**options, "seed": 4}
        assert answer(exported.texts, **options) != answer(exported.texts, **other)


class TestLoad:
    def test_the_runtime_without_tensorflow_comes_first(self, exported):
        assert type(load(exported.directory).backend).__module__ == "tfzoo.runtime.onnx"
        assert type(exported.runtimes["saved_model"].backend).__name__ == "SavedModelBackend"

    def test_the_options_of_the_export_are_the_default(self, exported):
        found = exported.runtimes["onnx"]
        assert found.decoding == exported.predictor.decoding
        assert (found.decoding.max_length, found.max_length) == (MAX_LENGTH, S_MAX)
        assert found.manifest["name"] == "model"

    def test_an_unknown_runtime_offers_the_nearest(self, exported):
        for opened in (load, tfzoo.load):
            with pytest.raises(
                UsageError, match="`runtime` must be one of saved_model, onnx.*'savedmodel'. Did you mean"
            ):
                opened(exported.directory, "savedmodel")

    def test_a_folder_without_a_manifest(self, tmp_path):
        with pytest.raises(ArtifactError, match="is not an artifact: manifest.json is missing"):
            Artifact(tmp_path)

    @pytest.mark.parametrize(
        ("file", "runtimes"),
        [
            ("onnx/generate.onnx", ["onnx"]),
            ("1/variables/variables.data-00000-of-00001", ["saved_model"]),
            ("source/vocab.json", ["onnx", "saved_model"]),
        ],
    )
    def test_a_file_that_answers_are_computed_from(self, separate_vocabularies, tmp_path, file, runtimes):
        """Changed or missing, it is refused at once; the other runtime does not need it."""
        copy = separate_vocabularies.copy(tmp_path / "model")
        content = bytearray((copy / file).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / file).write_bytes(content)
        for runtime in runtimes:
            with pytest.raises(ArtifactError, match=rf"model/{file} differs from the file that was proved"):
                load(copy, runtime)
        (copy / file).unlink()
        for runtime in runtimes:
            with pytest.raises(ArtifactError, match=rf"model/{file} is missing; copy the artifact again\."):
                load(copy, runtime)
        if "onnx" not in runtimes:
            assert load(copy, "onnx")(["abc"]) == separate_vocabularies.predictor(["abc"])

    def test_the_scores_are_log_probabilities_divided_by_the_penalty(self, exported):
        """Without a penalty a longer sequence is never likelier than its beginning."""
        options = {"num_beams": 1, "length_penalty": 0.0}
        for (short,), (long,) in zip(
            exported.runtimes["onnx"].generate(exported.texts, max_length=2, **options),
            exported.runtimes["onnx"].generate(exported.texts, max_length=6, **options),
            strict=True,
        ):
            assert long.token_ids[: len(short.token_ids)] == short.token_ids
            assert long.score <= short.score + tolerance("onnx_logits") <= tolerance("onnx_logits")

    def test_stepwise_logits_are_those_of_the_whole(self, exported):
        ids = np.array([[5, 6, 3]], np.int32)
        probe = {"encoder_token_ids": ids, "decoder_token_ids": np.array([[2, 7, 9, 4]], np.int32)}
        backend = exported.runtimes["onnx"].backend
        whole = backend.logits(probe)
        assert whole.shape == (1, 4, exported.tokenizer.target.vocabulary_size)
        atol = tolerance("onnx_logits") * max(1, np.abs(whole).max())
        np.testing.assert_allclose(backend.stepwise_logits(probe), whole, rtol=0, atol=atol)
