"""g2p-en's network as a run: the same phonemes as an independent forward on its own weights, and honest errors."""

import importlib.util
import random
import string
from pathlib import Path

import numpy as np
import pytest

from tests.references import g2p_en as reference
from tfzoo import runs
from tfzoo.cli.main import main
from tfzoo.data.sources import read
from tfzoo.errors import CheckpointError, UsageError
from tfzoo.interop import g2p_en

pytestmark = pytest.mark.xdist_group("g2p_en")

NUM_WORDS = 5000


def random_tensors():
    """Weights of the true shapes; large enough for the answers to vary."""
    generator = np.random.default_rng(3)
    shapes = g2p_en.tensor_shapes()
    tensors = {
        name: generator.normal(0, 1 if "emb" in name else 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    tensors["fc_b"][[0, 2]] = -100  # <pad> and <s>, which our text leaves out
    return tensors


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


@pytest.fixture(scope="module")
def checkpoint(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("g2p_en") / g2p_en.FILE
    np.savez(path, **tensors)
    return path


@pytest.fixture(scope="module")
def installed():
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("g2p-en's weights are not installed; run tests/setup")
    return Path(spec.submodule_search_locations[0]) / g2p_en.FILE


class TestNetwork:
    def test_random_weights_give_the_phonemes_of_an_independent_forward(self, tensors, checkpoint, tmp_path):
        g2p_en.read_checkpoint(checkpoint, tmp_path / "run")
        draw = random.Random(0)
        alphabet = string.ascii_lowercase + "'-É"
        words = ["".join(draw.choices(alphabet, k=draw.randint(1, 20))) for _ in range(300)]
        expected = [" ".join(phonemes) for phonemes in reference.pronounce(tensors, words, g2p_en.PHONEMES)]
        assert len(set(expected)) > 100
        assert runs.load(tmp_path / "run")(words) == [text.replace("<unk>", "⁇") for text in expected]

    def test_the_installed_weights_do_so_on_5000_words(self, installed, tmp_path):
        g2p_en.read_checkpoint(None, tmp_path / "run")
        words = [*dict.fromkeys(word for word, _ in read("sample:cmudict:test"))][:NUM_WORDS]
        assert len(words) == NUM_WORDS
        with np.load(installed) as file:
            expected = reference.pronounce(dict(file), words, g2p_en.PHONEMES)
        found = [predictions[0] for predictions in runs.load(tmp_path / "run").generate(words, batch_size=500)]
        assert [one.output for one in found] == [" ".join(phonemes) for phonemes in expected]

    def test_the_run_is_exported_and_proven(self, checkpoint, tmp_path):
        g2p_en.read_checkpoint(checkpoint.parent, tmp_path / "run")  # a folder will do
        runs.export_run(tmp_path / "run", tmp_path / "artifact", ("onnx",))
        words = ["tensor", "keyboard", "é"]
        assert runs.load(tmp_path / "artifact")(words) == runs.load(tmp_path / "run")(words)


class TestCommand:
    def test_converts_a_named_file(self, checkpoint, tmp_path, capsys):
        arguments = ["convert", "--from=g2p_en", f"--checkpoint={checkpoint}", f"--run_dir={tmp_path / 'run'}"]
        assert main(arguments) == 0
        assert f"converted: {tmp_path / 'run'}" in capsys.readouterr().out
        assert main(arguments) == 2
        assert "is not empty" in capsys.readouterr().err

    def test_without_the_package_says_how_to_install_it(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert main(["convert", "--from=g2p_en", f"--run_dir={tmp_path / 'run'}"]) == 1
        message = "the package `g2p-en` is not installed: pip install --no-deps 'g2p-en==2.1.0'"
        assert message in capsys.readouterr().err

    def test_is_read_and_not_written(self, tmp_path, capsys):
        arguments = ["convert", "--to=g2p_en", f"--checkpoint={tmp_path / 'out'}", f"--run_dir={tmp_path}"]
        assert main(arguments) == 2
        assert "--to" in capsys.readouterr().err


class TestMistakes:
    def refused(self, path, tmp_path, kind):
        with pytest.raises(kind) as caught:
            g2p_en.read_checkpoint(path, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    def test_a_file_that_is_not_there(self, tmp_path):
        message = self.refused(tmp_path / "nothing.npz", tmp_path, UsageError)
        assert "nothing.npz is no file; name g2p-en's checkpoint20.npz, or leave it out" in message

    @pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 a broken one"])
    def test_a_damaged_file(self, tmp_path, content):
        path = tmp_path / g2p_en.FILE
        path.write_bytes(content)
        assert f"{path} is damaged (" in self.refused(path, tmp_path, CheckpointError)

    def test_a_pickle_is_not_opened(self, tmp_path, tensors):
        path = tmp_path / g2p_en.FILE
        np.savez(path, **tensors | {"fc_b": np.array([print], object)})
        assert "is damaged (Object arrays cannot be loaded" in self.refused(path, tmp_path, CheckpointError)

    def test_other_tensors(self, tmp_path, tensors):
        path = tmp_path / g2p_en.FILE
        np.savez(path, **{name: value for name, value in tensors.items() if name != "enc_b_hh"})
        assert "the tensor 'enc_b_hh' is missing." in self.refused(path, tmp_path, CheckpointError)
        np.savez(path, **tensors, attention=np.zeros(3))
        assert "the tensor 'attention' has no place in the network." in self.refused(path, tmp_path, CheckpointError)
        np.savez(path, **tensors | {"dec_emb": np.zeros((73, 256))})
        message = self.refused(path, tmp_path, CheckpointError)
        assert "the tensor 'dec_emb' has the shape (73, 256), and g2p-en 2.1.0 has (74, 256)" in message
