"""`verify` on artifacts that were changed after their proof: each change is found, and said in one line."""

import json
import os
import re
import shutil

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

from tests.export.artifacts import S_MAX
from tfzoo.errors import ArtifactError, ArtifactMismatch
from tfzoo.export import manifest as manifests
from tfzoo.export import onnx_passes
from tfzoo.export.served_model import ServedModel
from tfzoo.export.verify import check_serving, probes, verify
from tfzoo.runtime import onnx_names
from tfzoo.runtime.head import Head
from tfzoo.runtime.saved_model import SavedModelBackend

pytestmark = pytest.mark.xdist_group("artifacts")

VARIABLES = "1/variables/variables.data-00000-of-00001"


@pytest.fixture
def artifact(separate_vocabularies, tmp_path):
    """A copy to be changed."""
    return separate_vocabularies.copy(tmp_path / "model")


@pytest.fixture
def onnx_artifact(artifact):
    """The same with its ONNX graphs alone, which are verified in a second."""
    shutil.rmtree(artifact / "1")
    rewrite(artifact, lambda manifest: manifest.update(formats=["onnx"]))
    return artifact


def rewrite(artifact, change=lambda manifest: None):
    """Changes the manifest and makes every digest in it right again, as one who means to deceive would."""
    manifest = read(artifact)
    change(manifest)
    manifest["weights"] = manifests.weight_digests(artifact)
    manifest["files"] = manifests.file_digests(artifact)
    manifests.write_manifest(artifact, manifest)


def read(artifact):
    return json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def refused(artifact, pattern):
    with pytest.raises(ArtifactMismatch) as error:
        verify(artifact)
    assert re.search(pattern, str(error.value)), str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_copy_elsewhere_is_proved_with_files_that_others_added(shared_vocabulary, tmp_path):
    copy = shared_vocabulary.copy(tmp_path / "elsewhere")
    (copy / "onnx/model_quantized.onnx").write_bytes(b"a hosting service's")
    (copy / ".gitattributes").write_text("*.onnx filter=lfs")
    report = verify(os.fspath(copy))
    assert set(report) == {"directory", "num_files", "saved_model", "onnx", "onnx against saved_model"}
    assert report["directory"] == os.fspath(copy)
    assert report["num_files"] == len(shared_vocabulary.manifest["files"]) > 10
    for found in (report["saved_model"], report["onnx"]):
        assert 0 <= found["max_logit_difference"] < 1e-4
        assert 0 <= found["max_score_difference"] < 1e-3
    assert report["saved_model"]["served"] == len(shared_vocabulary.manifest["golden"]["served"]["outputs"]) == 6
    assert len(report["onnx against saved_model"]["probes"]) == 3


class TestFiles:
    @pytest.mark.parametrize("file", [onnx_names.ENCODER, onnx_names.DECODER, onnx_names.GENERATE])
    def test_a_flipped_bit_in_a_graph_names_file_and_weight(self, artifact, file):
        model = onnx.load(artifact / file)
        kernels = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [22, 16]]
        name, raw = kernels[0].name, kernels[0].raw_data
        flip(artifact / file, (artifact / file).read_bytes().index(raw) + 8)
        message = refused(artifact, rf"{file} differs from the file that was proved in weight ")
        assert repr(name) in message
        assert re.search(r"the model's transformer/(en|de)coder_block_\d/.*feed_forward/output/kernel;", message)

    def test_a_flipped_bit_in_the_variables_names_the_variable(self, separate_vocabularies, artifact):
        variable = separate_vocabularies.model.decoder_blocks[1].trainable_variables[4]
        raw = keras.ops.convert_to_numpy(variable).tobytes()
        flip(artifact / VARIABLES, (artifact / VARIABLES).read_bytes().index(raw) + 8)
        message = refused(artifact, rf"{VARIABLES} differs from the file that was proved in weight ")
        assert f"the model's {variable.path};" in message

    @pytest.mark.parametrize(
        "file",
        [
            "1/saved_model.pb",
            "1/variables/variables.index",
            "source/vocab.json",
            "source/tokenizer.json",
            "target/tokenizer_config.json",
            "config.json",
            "README.md",
        ],
    )
    def test_a_flipped_bit_elsewhere_names_the_file(self, artifact, file):
        flip(artifact / file, 100)
        refused(artifact, rf"^\S+/{re.escape(file)} differs from the file that was proved; copy the artifact again\.$")

    @pytest.mark.parametrize("file", [onnx_names.DECODER, VARIABLES, "1/fingerprint.pb", "target/vocab.json"])
    def test_a_missing_file_is_named(self, artifact, file):
        (artifact / file).unlink()
        refused(artifact, rf"/{re.escape(file)} is missing; copy the artifact again\.$")

    def test_a_file_that_was_cut_short_is_named(self, artifact):
        for file in (VARIABLES, onnx_names.GENERATE):
            shutil.copy(artifact / file, artifact / "whole")
            os.truncate(artifact / file, (artifact / file).stat().st_size // 2)
            refused(
                artifact, rf"/{re.escape(file)} differs from the file that was proved.*; copy the artifact again\.$"
            )
            shutil.move(artifact / "whole", artifact / file)

    def test_any_bit_of_a_graph_or_of_the_variables(self, artifact):
        """Wherever it falls: into a weight, a name, a shape, or the structure of the file."""
        generator = np.random.default_rng(3)
        manifest = read(artifact)
        for file in (onnx_names.ENCODER, VARIABLES):
            content = (artifact / file).read_bytes()
            for position in generator.integers(0, len(content), 25):
                flip(artifact / file, position)
                with pytest.raises(ArtifactMismatch, match=f"{file} differs from the file that was proved"):
                    manifests.check_files(artifact, manifest)
                (artifact / file).write_bytes(content)
        manifests.check_files(artifact, manifest)


class TestManifest:
    def test_any_letter_of_it(self, artifact):
        """The sums in it are only worth what the manifest is."""
        path = artifact / "manifest.json"
        content = path.read_bytes()
        letters = [index for index, byte in enumerate(content) if chr(byte).isalnum()]
        for position in np.random.default_rng(4).choice(letters, 40, replace=False):
            flip(path, position)
            with pytest.raises(ArtifactError, match=r"manifest\.json (differs|is damaged|has format_version)"):
                verify(artifact)
            path.write_bytes(content)

    def test_a_number_in_it(self, artifact):
        manifest = read(artifact)
        manifest["metrics"]["bleu"] = 99.0
        manifests.write_json(artifact / "manifest.json", manifest)
        refused(artifact, r"manifest\.json differs from what was proved; copy the artifact again\.")
        del manifest["sha256"]
        manifests.write_json(artifact / "manifest.json", manifest)
        refused(artifact, r"manifest\.json differs from what was proved")

    def test_layout_and_indentation_do_not_matter(self, artifact):
        manifest = read(artifact)
        (artifact / "manifest.json").write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")
        manifests.check_files(artifact, read(artifact))

    def test_a_folder_without_one_is_no_artifact(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(ArtifactError, match="is not an artifact: manifest.json is missing. Name a folder"):
                verify(folder)

    def test_one_of_another_version_is_refused(self, artifact):
        rewrite(artifact, lambda manifest: manifest.update(format_version=2))
        with pytest.raises(ArtifactError, match="has format_version 2; this tfzoo reads 1"):
            verify(artifact)


class TestGolden:
    """Digests that fit are not enough: the recorded answers must come out."""

    def test_digests_that_were_made_again_pass_with_the_same_answers(self, onnx_artifact):
        assert set(verify(onnx_artifact)) == {"directory", "num_files", "onnx"}

    @pytest.mark.parametrize("file", [onnx_names.ENCODER, onnx_names.DECODER, onnx_names.GENERATE])
    def test_another_weight_with_digests_that_fit(self, onnx_artifact, file):
        model = onnx.load(onnx_artifact / file)
        tensor = next(
            tensor
            for graph in onnx_passes.subgraphs(model.graph)
            for tensor in graph.initializer
            if sorted(tensor.dims) == [16, 18 if "encoder_model" in file else 23]
        )
        tensor.raw_data = (onnx.numpy_helper.to_array(tensor) * np.float32(1.05)).tobytes()
        onnx.save(model, onnx_artifact / file)
        rewrite(onnx_artifact)
        refused(onnx_artifact, "onnx, .* search" if "generate" in file else "onnx against the recorded logits")

    @pytest.mark.parametrize(
        ("change", "pattern"),
        [
            (
                lambda golden: golden["searches"]["beam"]["token_ids"][1].__setitem__(2, 1),
                r"onnx, beam search for 'kk lb': token ids \[.*\] instead of \[.*\], from position 2",
            ),
            (
                lambda golden: golden["searches"]["sample"]["outputs"].__setitem__(0, "P0"),
                r"onnx, sample search for 'abc': '.*' instead of 'P0'",
            ),
            (
                lambda golden: golden["searches"]["greedy"]["scores"].__setitem__(0, 0.0),
                r"onnx, greedy search: a score differs by \d.* nats, more than the tolerance of 0\.001",
            ),
            (
                lambda golden: golden["logits"][2].__setitem__(3, golden["logits"][2][3] + 0.01),
                r"onnx against the recorded logits: a logit differs by 0\.01, more than the tolerance of",
            ),
            (
                lambda golden: golden["logits"][0].__setitem__(0, float("nan")),
                r"onnx against the recorded logits: a logit differs by nan",
            ),
            (lambda golden: golden["texts"].__setitem__(0, "kk lb"), r"onnx, greedy search for 'kk lb': token ids"),
            (
                lambda golden: golden["searches"]["sample"]["options"].__setitem__("seed", 2),
                r"onnx, sample search for",
            ),
        ],
        ids=["token", "output", "score", "logit", "nan", "text", "seed"],
    )
    def test_another_recorded_answer(self, onnx_artifact, change, pattern):
        rewrite(onnx_artifact, lambda manifest: change(manifest["golden"]))
        refused(onnx_artifact, pattern)

    def test_another_served_answer(self, artifact):
        """Only the default signature gives it: the recorded searches still come out."""
        rewrite(artifact, lambda manifest: manifest["golden"]["served"]["outputs"].__setitem__(1, "another"))
        refused(
            artifact,
            r"saved_model through tf\.saved_model\.load, serving_default for 'kk lb': '.*' instead of 'another'",
        )

    def test_another_tokenizer(self, onnx_artifact):
        path = onnx_artifact / "target/vocab.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"P15"', '"p15"'), encoding="utf-8")
        rewrite(onnx_artifact)
        refused(onnx_artifact, r"onnx, \w+ search for '.*': '.*p15.*' instead of '.*P15")

    def test_variables_that_do_not_load(self, artifact):
        """TensorFlow's own checksum finds it, with an error of its own kind."""
        flip(artifact / VARIABLES, 2000)
        rewrite(artifact)
        refused(artifact, "its SavedModel does not load")

    def test_a_graph_that_does_not_load(self, onnx_artifact):
        (onnx_artifact / onnx_names.GENERATE).write_bytes(b"\x08\x08rubbish")
        manifest = read(onnx_artifact)
        manifest["files"] = manifests.file_digests(onnx_artifact)
        manifests.write_manifest(onnx_artifact, manifest)
        with pytest.raises(ArtifactError, match="generate.onnx does not load in ONNX Runtime"):
            verify(onnx_artifact)


class Lengths(tf.Module):
    """A model that answers each text with a number, by a Keras variable."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(1, kernel_initializer="ones")
        self.layer.build((None, 2))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="source")])
    def serve(self, source):
        lengths = tf.cast(tf.strings.length(source), tf.float32)
        sums = self.layer(tf.stack([lengths, lengths], axis=1))
        return {"outputs": tf.strings.as_string(tf.cast(sums[:, 0], tf.int32))}


def serve(version_folder, backend, outputs):
    with ServedModel(version_folder) as server:
        return check_serving(server, backend, {"texts": ["ab", "abc"], "served": {"outputs": outputs}})


class TestServing:
    def test_variables_of_keras_saved_without_keras_fail_the_request(self, tmp_path):
        """`tf.saved_model.save` of a tf.Module that holds Keras variables: Python is content, no server answers."""
        module = Lengths()
        tf.saved_model.save(module, tmp_path / "1", signatures={"serving_default": module.serve})
        backend = SavedModelBackend(tmp_path / "1", Head(task="seq2seq", max_length=9))
        assert backend.serve(["ab", "abc"]) == {"outputs": ["4", "6"]}
        with pytest.raises(
            ArtifactMismatch, match="the SavedModel fails a server's request: .*Could not find variable"
        ) as error:
            serve(tmp_path / "1", backend, ["4", "6"])
        assert "\n" not in str(error.value)

    def test_an_archive_of_keras_answers_and_another_answer_is_noticed(self, tmp_path):
        module = Lengths()
        archive = keras.export.ExportArchive()
        module.serve.get_concrete_function()
        archive.add_endpoint("serving_default", module.serve)
        archive.write_out(tmp_path / "1", verbose=False)
        backend = SavedModelBackend(tmp_path / "1", Head(task="seq2seq", max_length=9))
        assert serve(tmp_path / "1", backend, ["4", "6"]) == 2
        with pytest.raises(ArtifactMismatch, match=r"through tf\.saved_model\.load, .* 'abc': '6' instead of 'other'"):
            serve(tmp_path / "1", backend, ["4", "other"])


class TestProbes:
    def test_their_shapes_and_their_padding(self):
        sizes = {"encoder_token_ids": 11, "decoder_token_ids": 7}
        made = probes(sizes, S_MAX, pad_id=0)
        assert [tuple(value.shape for value in probe.values()) for probe in made] == [
            ((1, 1), (1, 1)),
            ((3, 7), (3, 5)),
            ((1, S_MAX), (1, S_MAX)),
        ]
        for probe in made:
            for name, value in probe.items():
                assert value.dtype == np.int32
                assert 0 <= value.min() <= value.max() < sizes[name]
        padding = made[1]["encoder_token_ids"] == 0
        assert padding.sum(axis=1).tolist() == [0, 3, 0]
        assert not any((probe["decoder_token_ids"] == 0).any() for probe in made)
        again = probes(sizes, S_MAX, pad_id=0)
        assert all(
            np.array_equal(one[name], other[name]) for one, other in zip(made, again, strict=True) for name in one
        )

    def test_a_model_of_one_position(self):
        for probe in probes({"encoder_token_ids": 5, "decoder_token_ids": 5}, 1, pad_id=0):
            assert {value.shape[1] for value in probe.values()} == {1}
