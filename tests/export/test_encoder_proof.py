"""The proof of encoders' artifacts: it holds, each change is found, and what is not proved does not exist."""

import json
import math
import re
import shutil

import numpy as np
import onnx
import pytest

from tests.export.artifacts import S_MAX
from tfzoo import runs
from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.errors import ArtifactMismatch, UsageError
from tfzoo.export import exporter
from tfzoo.export import manifest as manifests
from tfzoo.export.outputs import TOLERANCE, compare_outputs
from tfzoo.export.tokenizer_vectors import FILE, check_vectors
from tfzoo.models import Bert
from tfzoo.models.config import BertConfig
from tfzoo.runtime.head import Head
from tfzoo.text import SymbolTokenizer

pytestmark = pytest.mark.xdist_group("encoders")

RUNTIMES = ("saved_model", "onnx")
INPUTS = ("token_ids", "padding_mask", "segment_ids")


@pytest.fixture
def artifact(exported_by_name, tmp_path):
    """A copy of the classifier to be changed, with its ONNX graph alone."""
    copy = exported_by_name("classifier").copy(tmp_path / "model")
    shutil.rmtree(copy / "1")
    seal(copy, lambda manifest: manifest.update(formats=["onnx"]))
    return copy


def seal(artifact, change=lambda manifest: None):
    """Changes the manifest, and makes every digest in it right again."""
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    manifest["weights"] = manifests.weight_digests(artifact)
    manifest["files"] = manifests.file_digests(artifact)
    manifests.write_manifest(artifact, manifest)


@pytest.mark.parametrize("name", ["pair_classifier", "masked_lm"])
def test_the_whole_is_verified(exported_by_name, name):
    encoder = exported_by_name(name)
    report = runs.verify(encoder.directory)
    assert set(report) == {"directory", "num_files", "saved_model", "onnx", "onnx against saved_model"}
    assert report["saved_model"]["served"] == len(encoder.manifest["golden"]["texts"]) == 6
    for name in RUNTIMES:
        assert report[name]["max_score_difference"] < TOLERANCE
        assert report[name]["tokenizer_vectors"] > 200
    shapes = [probe["shapes"] for probe in report["onnx against saved_model"]["probes"]]
    assert shapes == [dict.fromkeys(INPUTS, shape) for shape in ([1, 1], [3, 7], [1, S_MAX])]


def test_another_weight_is_named(artifact):
    path = artifact / "onnx/model.onnx"
    model = onnx.load(path)
    weight = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [18, 22])
    weight.raw_data = (onnx.numpy_helper.to_array(weight) * np.float32(1.1)).tobytes()
    onnx.save(model, path)
    with pytest.raises(ArtifactMismatch, match=f"in weight {re.escape(repr(weight.name))}"):
        runs.verify(artifact)
    seal(artifact)
    with pytest.raises(ArtifactMismatch, match="onnx against the recorded logits: a logit differs by"):
        runs.verify(artifact)


def test_a_changed_weight_of_any_task_is_no_export(encoder, tmp_path, monkeypatch):
    """What is written of other weights than the model's does not appear."""

    def write_onnx(model, directory):
        shutil.copytree(encoder.directory / "onnx", f"{directory}/onnx")
        path = f"{directory}/onnx/model.onnx"
        graph = onnx.load(path)
        weight = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [18, 22])
        weight.raw_data = (onnx.numpy_helper.to_array(weight) * np.float32(1.1)).tobytes()
        onnx.save(graph, path)

    monkeypatch.setattr(exporter, "write_onnx", write_onnx)
    monkeypatch.setattr(exporter, "keras_backend", lambda *_: encoder.predictor.backend)
    with pytest.raises(ArtifactMismatch, match="onnx at .*: a logit differs by"):
        exporter.export(
            encoder.model, encoder.tokenizer, tmp_path / "model", ["onnx"], decoding=encoder.predictor.decoding
        )
    assert not list(tmp_path.iterdir())


def test_other_labels_are_found(artifact):
    config = json.loads((artifact / "config.json").read_text(encoding="utf-8"))
    config["id2label"]["0"] = "good"
    manifests.write_json(artifact / "config.json", config)
    with pytest.raises(ArtifactMismatch, match=r"config\.json differs from the file that was proved"):
        runs.verify(artifact)
    seal(artifact)
    with pytest.raises(ArtifactMismatch, match="has other labels than were proved, bad, größe, so so"):
        runs.verify(artifact)
    config["id2label"], config["label2id"] = (
        {"0": "größe", "1": "bad", "2": "so so"},
        {"größe": 0, "bad": 1, "so so": 2},
    )
    manifests.write_json(artifact / "config.json", config)
    seal(artifact, lambda manifest: manifest["head"].update(labels=["größe", "bad", "so so"]))
    with pytest.raises(ArtifactMismatch, match=r"onnx for 'the dog': \['.*'\] instead of \['.*'\]"):
        runs.verify(artifact)


def test_another_recorded_answer_is_found(artifact):
    def change(manifest):
        labels = manifest["golden"]["served"]["labels"][1]
        labels[0], labels[1] = labels[1], labels[0]

    seal(artifact, change)
    with pytest.raises(ArtifactMismatch, match=r"onnx for 'over the green hill': \["):
        runs.verify(artifact)


@pytest.mark.parametrize("name", ["word_classifier", "masked_lm", "answerer", "embedder"])
def test_another_served_answer_of_each_task_is_found(exported_by_name, name):
    encoder = exported_by_name(name)
    served = encoder.predictor.served(encoder.texts)
    for output, rows in served.items():
        changed = json.loads(json.dumps(served))
        row = changed[output][1]
        if isinstance(row, list):
            while isinstance(row[0], list):
                row = row[0]
            row[0] = row[0] + ("x" if isinstance(row[0], str) else 0.01)
        else:
            changed[output][1] = row + ("x" if isinstance(row, str) else 0.01 if isinstance(row, float) else 1)
        with pytest.raises(ArtifactMismatch, match="^this for "):
            compare_outputs("this", encoder.texts, served, changed)
        assert rows


class TestOutputs:
    def test_equal_ranks_may_change_places(self):
        recorded = {"labels": [["a", "b", "c"]], "scores": [[0.4, 0.3999, 0.2]]}
        found = {"labels": [["b", "a", "c"]], "scores": [[0.39995, 0.39995, 0.2]]}
        assert 0 < compare_outputs("this", ["x"], found, recorded, ranked="labels") < 1e-4
        with pytest.raises(ArtifactMismatch, match="this for 'x': .* instead of"):
            compare_outputs("this", ["x"], found, recorded)
        found["labels"] = [["a", "c", "b"]]
        with pytest.raises(ArtifactMismatch, match="this for 'x': .* instead of"):
            compare_outputs("this", ["x"], found, recorded, ranked="labels")
        found["labels"] = [["b", "d", "c"]]
        with pytest.raises(ArtifactMismatch, match="this for 'x': .* instead of"):
            compare_outputs("this", ["x"], found, recorded, ranked="labels")

    @pytest.mark.parametrize("value", [math.nan, 0.51, 0.48])
    def test_a_number_beyond_the_tolerance(self, value):
        with pytest.raises(ArtifactMismatch, match="`scores` differs by"):
            compare_outputs("this", ["x"], {"scores": [[value]]}, {"scores": [[0.5]]})

    def test_another_shape_or_no_output(self):
        with pytest.raises(ArtifactMismatch, match="this for 'x': "):
            compare_outputs("this", ["x"], {"scores": [[0.5, 0.5]]}, {"scores": [[0.5]]})
        for found in ({}, {"scores": []}):
            with pytest.raises(ArtifactMismatch, match="this: no `scores` for each of 1 texts"):
                compare_outputs("this", ["x"], found, {"scores": [[0.5]]})


def test_a_wrong_id_is_found_in_the_graph(encoder, tmp_path):
    copy = encoder.copy(tmp_path / "model")
    content = json.loads((copy / FILE).read_text(encoding="ascii"))
    vector = next(one for one in content["tokenizers"][0]["encode"] if one["text"] == " a")
    vector["ids"][-1] += 1
    (copy / FILE).write_text(json.dumps(content), encoding="ascii")
    for runtime in RUNTIMES:
        with pytest.raises(ArtifactMismatch, match="for the text ' a'"):
            check_vectors(copy, encoder.runtimes[runtime].backend, S_MAX)


# ---- what an export refuses ----


def test_options_that_do_not_fit_are_refused(exported_by_name, tmp_path):
    classifier, pairs, answerer = map(exported_by_name, ("classifier", "pair_classifier", "answerer"))

    def refused(encoder, message, **arguments):
        with pytest.raises(UsageError, match=message):
            exporter.export(encoder.model, encoder.tokenizer, tmp_path / "m", **arguments)

    decoding = DecodingConfig(max_length=5)
    refused(classifier, "model for 'text_classification' must be None; received Decod", decoding=decoding)
    refused(answerer, "model for 'question_answering' must be AnswerConfig; received Decod", decoding=decoding)
    decoding = AnswerConfig(window_length=22, stride=2, max_question_length=6)
    refused(answerer, "received window_length=22, max_sequence_length=21", decoding=decoding)
    refused(answerer, "received window_length=384, max_sequence_length=21")
    refused(pairs, "`texts` must hold pairs of strings", texts=["one"])
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_of_another_model_is_refused(exported_by_name, tmp_path):
    classifier = exported_by_name("classifier")
    with pytest.raises(UsageError, match="the pieces of a WordPieceTokenizer; received a SymbolTokenizer"):
        exporter.export(classifier.model, SymbolTokenizer("abc", ""), tmp_path / "m")
    config = BertConfig(
        **{name: getattr(classifier.model.config, name) for name in classifier.model.config.__dataclass_fields__}
        | {"mask_id": 7}
    )
    with pytest.raises(UsageError, match="source side has mask_id=4, the model mask_id=7"):
        exporter.export(Bert(config), classifier.tokenizer, tmp_path / "m")


def test_texts_for_the_proof_have_a_mask_or_are_pairs(exported_by_name):
    masks, pairs = Head(task="fill_mask", max_length=9), Head(task="question_answering", max_length=9, num_texts=2)
    assert exporter._golden_texts(["one"], masks) == ["one", "[MASK]"]
    assert exporter._golden_texts([("a", "b")], pairs) == [("a", "b"), ("", "")]
    tokenizer = exported_by_name("classifier").tokenizer
    assert all(text.endswith(" [MASK]") for text in exporter._random_texts(tokenizer, masks))
    assert {len(pair) for pair in exporter._random_texts(tokenizer, pairs)} == {2}
