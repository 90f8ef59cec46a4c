"""`tfzoo.export`: what it refuses before it begins, and that what is not proved does not exist afterwards.

Most tests hand the exporter graphs that were converted before: what it does with them is the subject.
"""

import dataclasses
import json
import os
import shutil
import stat

import numpy as np
import onnx
import pytest
import tensorflow as tf

import tfzoo
from tests.export.artifacts import MAX_LENGTH, S_MAX
from tfzoo.decoding import DecodingConfig
from tfzoo.errors import ArtifactError, ArtifactMismatch, UsageError
from tfzoo.export import exporter, onnx_passes
from tfzoo.export.verify import verify
from tfzoo.models import Transformer
from tfzoo.runtime import Artifact, onnx_names
from tfzoo.text import SymbolTokenizer, TokenizerPair

pytestmark = pytest.mark.xdist_group("artifacts")


class Converted:
    """Exports a model by copying what has been converted before; `spoil` is called on the folder with the copy."""

    def __init__(self, subject):
        self.subject = subject
        self.spoil = lambda directory: None
        self.models = []

    def write(self, folder):
        def copy(model, *arguments):
            directory = arguments[-1]
            self.models.append(model)
            shutil.copytree(self.subject.directory / folder, os.path.join(directory, folder))
            self.spoil(directory)

        return copy

    def __call__(self, output_dir, formats=("onnx",), **arguments):
        defaults = {
            "model": self.subject.model,
            "tokenizer": self.subject.tokenizer,
            "decoding": self.subject.predictor.decoding,
            "texts": self.subject.texts[:5],
        }
        return tfzoo.export(output_dir=output_dir, formats=formats, **defaults | arguments)


@pytest.fixture
def export(separate_vocabularies, monkeypatch):
    converted = Converted(separate_vocabularies)
    monkeypatch.setattr(exporter, "write_onnx", converted.write("onnx"))
    monkeypatch.setattr(exporter, "write_saved_model", converted.write("1"))
    monkeypatch.setattr(exporter, "keras_backend", lambda *_: separate_vocabularies.predictor.backend)
    return converted


def perturb_onnx(path, name_part):
    """Adds to one element of a weight, and returns the weight's name."""
    model = onnx.load(path)
    for graph in onnx_passes.subgraphs(model.graph):
        for tensor in graph.initializer:
            if name_part in tensor.name and len(tensor.dims) == 2:
                array = onnx.numpy_helper.to_array(tensor).copy()
                array[2, 3] += 0.5
                tensor.raw_data = array.tobytes()
                onnx.save(model, path)
                return tensor.name
    raise LookupError(name_part)


def perturb_saved_model(directory, weight):
    """Writes the checkpoint again, sums of its own included, with one other number of a weight.

    The weight is found by value: the names of variables there are numbers, and not always the same ones.
    """
    prefix = os.path.join(directory, "1/variables/variables")
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(reader.get_variable_to_shape_map())
    tensors = [reader.get_tensor(name) for name in names]  # one of them is bytes: the table of objects
    (found,) = [tensor for tensor in tensors if np.array_equal(tensor, weight)]
    found[-1, 5] += 0.5
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)


class TestProof:
    @pytest.mark.parametrize(
        ("path", "weight", "message"),
        [
            (onnx_names.ENCODER, "encoder_block_1_1/self_residual_1/value", "onnx at .*: a logit differs by"),
            (onnx_names.DECODER, "decoder_block_0_1/self_residual_1/value", "onnx at .*: a logit differs by"),
            (onnx_names.GENERATE, "encoder_block_0_1/self_residual_1/value", "onnx, greedy search"),
        ],
    )
    def test_one_wrong_number_in_a_graph_is_noticed(self, export, tmp_path, path, weight, message):
        export.spoil = lambda directory: perturb_onnx(os.path.join(directory, path), weight)
        with pytest.raises(ArtifactMismatch, match=message):
            export(tmp_path / "parent" / "model")
        assert list((tmp_path / "parent").iterdir()) == []  # not even a hidden folder

    def test_one_wrong_number_in_a_saved_model_is_noticed(self, export, tmp_path):
        weight = export.subject.model.embedding.table.numpy()
        export.spoil = lambda directory: perturb_saved_model(directory, weight)
        (tmp_path / "model").mkdir()
        with pytest.raises(ArtifactMismatch, match="saved_model at .*: a logit differs by"):
            export(tmp_path / "model", formats=("saved_model",))
        assert list(tmp_path.iterdir()) == [tmp_path / "model"]
        assert list((tmp_path / "model").iterdir()) == []

    def test_a_graph_that_onnx_runtime_refuses_is_no_export(self, export, tmp_path):
        """An operator of no opset: tf2onnx writes such files and reports success."""

        def spoil(directory):
            path = os.path.join(directory, onnx_names.DECODER)
            model = onnx.load(path)
            next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Erfc"
            onnx.save(model, path)

        export.spoil = spoil
        with pytest.raises(ArtifactError, match="decoder_model_merged.onnx.*Erfc"):
            export(tmp_path / "model")
        assert list(tmp_path.iterdir()) == []

    def test_a_search_that_never_uses_an_option_is_noticed(self, export, tmp_path):
        """The graph of one search in the place of another: temperature is read, and without effect."""

        def spoil(directory):
            path = os.path.join(directory, onnx_names.GENERATE)
            model = onnx.load(path)
            for graph in onnx_passes.subgraphs(model.graph):
                for node in graph.node:
                    node.input[:] = ["greedy" if name == "temperature" else name for name in node.input]
            model.graph.node.insert(0, onnx.helper.make_node("Sub", ["temperature", "temperature"], ["greedy"]))
            onnx.save(model, path)

        export.spoil = spoil
        with pytest.raises(ArtifactMismatch, match="onnx, sample search for"):
            export(tmp_path / "model")

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
    def test_an_interruption_leaves_nothing(self, export, tmp_path, error):
        def spoil(directory):
            raise error

        export.spoil = spoil
        with pytest.raises(error):
            export(tmp_path / "model")
        assert list(tmp_path.iterdir()) == []


class TestArguments:
    def refused(self, export, output_dir, message, **arguments):
        with pytest.raises(UsageError, match=message) as error:
            export(output_dir, **arguments)
        assert "\n" not in str(error.value)
        assert export.models == []  # nothing has been written yet

    def test_a_folder_that_is_not_empty_stays_as_it_was(self, export, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine.txt").write_text("mine")
        self.refused(export, tmp_path / "model", "`output_dir` .*model exists and is not empty")
        assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine.txt"]
        assert (tmp_path / "model" / "mine.txt").read_text() == "mine"
        self.refused(export, tmp_path / "model" / "mine.txt", "exists and is not empty")

    def test_formats(self, export, tmp_path):
        self.refused(export, tmp_path / "m", "onnx_text; received 'savedmodel'. Did you mean 'saved_model'?",
                     formats=("savedmodel",))  # fmt: skip
        self.refused(export, tmp_path / "m", "a sequence of saved_model, onnx, onnx_text; received formats='onnx'",
                     formats="onnx")  # fmt: skip
        self.refused(export, tmp_path / "m", r"received formats=\(\)", formats=())
        assert list(tmp_path.iterdir()) == []

    def test_a_tokenizer_of_another_model(self, export, tmp_path):
        source, target = export.subject.tokenizer.source, export.subject.tokenizer.target
        more = SymbolTokenizer("abc", "")
        self.refused(export, tmp_path / "m", "its source side has 7 ids, the model embeds 18", tokenizer=(more, target))
        self.refused(export, tmp_path / "m", "its target side has 7 ids, the model embeds 23", tokenizer=(source, more))
        self.refused(export, tmp_path / "m", "its source side has 23 ids", tokenizer=(target, source))
        self.refused(export, tmp_path / "m", "its source side has 23 ids", tokenizer=TokenizerPair(target, target))

    def test_a_model_with_other_special_ids(self, export, tmp_path):
        model = Transformer(dataclasses.replace(export.subject.model.config, end_id=1))
        self.refused(export, tmp_path / "m", "source side has end_id=3, the model end_id=1", model=model)

    def test_more_tokens_than_positions(self, export, tmp_path):
        self.refused(export, tmp_path / "m", "received max_length=22, max_sequence_length=21",
                     decoding=DecodingConfig(max_length=S_MAX + 1))  # fmt: skip

    def test_what_json_cannot_say(self, export, tmp_path):
        self.refused(export, tmp_path / "m", "`metrics` .*float32", metrics={"bleu": np.float32(3)})
        self.refused(export, tmp_path / "m", "`recipe` .*PosixPath", recipe={"name": "x", "data": tmp_path})


class TestArtifactFolder:
    def test_onnx_alone(self, export, tmp_path, monkeypatch):
        """By a relative path with new folders in it; no TensorFlow file, no decoding options given, no texts."""
        monkeypatch.chdir(tmp_path)
        manifest = export("new/folders/model", decoding=None, texts=(), metrics={"bleu": 3.5})
        directory = tmp_path / "new/folders/model"
        assert sorted(path.name for path in directory.iterdir()) == [
            "README.md",
            "config.json",
            "generation_config.json",
            "manifest.json",
            "onnx",
            "source",
            "target",
            "tokenizer_vectors.json",
        ]
        assert json.loads((directory / "manifest.json").read_text(encoding="utf-8")) == manifest
        assert (manifest["name"], manifest["formats"], "saved_model" in manifest) == ("model", ["onnx"], False)
        assert manifest["decoding"]["max_length"] == S_MAX  # the default is longer than the model
        assert len(manifest["golden"]["texts"]) == 6
        assert manifest["golden"]["texts"][-1] == ""
        report = verify(directory)
        assert set(report) == {"directory", "num_files", "onnx"}
        answer = Artifact(directory)
        assert answer(["abc"]) == export.subject.predictor(["abc"], max_length=S_MAX)
        with pytest.raises(UsageError, match="`runtime` must be one of onnx, .* received runtime='saved_model'"):
            Artifact(directory, "saved_model")
        card = (directory / "README.md").read_text(encoding="utf-8")
        assert "| bleu | 3.5 |" in card
        assert "curl" not in card

    def test_saved_model_alone(self, export, tmp_path):
        """Into a folder that exists and is empty."""
        (tmp_path / "model").mkdir()
        decoding = DecodingConfig(max_length=MAX_LENGTH, num_beams=1, num_return_sequences=1)
        manifest = export(tmp_path / "model", formats=["saved_model"], decoding=decoding, recipe={"name": "mine"})
        assert not (tmp_path / "model/onnx").exists()
        assert (manifest["recipe"], "onnx" in manifest) == ({"name": "mine"}, False)
        assert set(verify(tmp_path / "model")) == {"directory", "num_files", "saved_model"}
        assert "recipe `mine`" in (tmp_path / "model/README.md").read_text(encoding="utf-8")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_anyone_may_read_it(self, export, exported, tmp_path):
        """A server runs as another user, and the folder that it was made in was private."""
        if os.umask(os.umask(0o022)) != 0o022:
            pytest.skip("the umask of this shell is not the usual 022, which decides about the files")
        export(tmp_path / "model")
        for directory in (tmp_path / "model", exported.directory):
            for path in (directory, *directory.rglob("*")):
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode & 0o444 == 0o444, path
                assert path.is_file() or mode & 0o111 == 0o111, path

    def test_a_model_trained_in_half_precision_is_exported_in_float32(self, export, tmp_path):
        config = export.subject.model.config
        model = Transformer(config, dtype="mixed_bfloat16")
        model.set_weights(export.subject.model.get_weights())
        export(tmp_path / "model", model=model)
        (written,) = export.models
        assert written.compute_dtype == "float32"
        assert written.encoder_blocks[0].compute_dtype == "float32"
        for found, expected in zip(written.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert model.compute_dtype == "bfloat16"  # the user's own is left alone

    def test_the_manifest_says_what_was_proved(self, exported):
        manifest = exported.manifest
        proof = manifest["proof"]
        shapes = [{name: tuple(shape) for name, shape in probe["shapes"].items()} for probe in proof["onnx"]["probes"]]
        assert shapes == [
            {"encoder_token_ids": (1, 1), "decoder_token_ids": (1, 1)},
            {"encoder_token_ids": (3, 7), "decoder_token_ids": (3, 5)},
            {"encoder_token_ids": (1, S_MAX), "decoder_token_ids": (1, S_MAX)},
        ]
        for name in ("saved_model", "onnx"):
            assert proof[name]["identical_tokens"] == ["greedy", "beam", "sample"]
            assert len(proof[name]["probes"]) == 3
        assert manifest["versions"]["tfzoo"] == tfzoo.__version__
        assert manifest["num_parameters"] == sum(variable.numpy().size for variable in exported.model.weights)
        assert manifest["metrics"] == {"bleu": 12.5}
