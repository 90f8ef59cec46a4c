"""`tfzoo train`, killed at several moments in processes of its own, ends with the bits of an uninterrupted run.

Dropout, shuffling, gradient accumulation and a moving average are on.
"""

import functools
import signal
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests import tiny_run
from tests.training import killed, two_workers
from tests.training.comparison import TIMES
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("two_workers")

MOMENTS = ("step:1", "half:2", "saved:4", "step:5", "validating:6")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    for name, words in (("train", tiny_run.WORDS[:17]), ("validation", tiny_run.WORDS[-5:])):
        (directory / f"{name}.tsv").write_text("".join(map(tiny_run.pair, words)), encoding="utf-8")
    return directory


def train(data: Path, run_dir: Path, strategy: str, moment: str = "none") -> list[tuple[int, str]]:
    """Exit code and output of each process."""
    arguments = [
        "train",
        "--recipe=transformer_tiny_g2p",
        f"--run_dir={run_dir}",
        f"--data=tsv:{data / 'train.tsv'}",
        f"--validation_data=tsv:{data / 'validation.tsv'}",
        f"--strategy={strategy}",
    ]
    configs = two_workers.tf_configs() if strategy == "multi_worker" else [None]
    return killed.finished(moment, arguments, num_cpus=2 if strategy == "mirrored" else 1, configs=configs)


def assert_trained(results: list[tuple[int, str]]) -> None:
    for code, output in results:
        assert code == 0, output


def assert_same_run(one: Path, two: Path, rel: float = 0.0) -> None:
    """All that is saved at the end is the same, and so is all that was measured but for time, within `rel`."""
    first, second = checkpoints.newest(one), checkpoints.newest(two)
    assert first.step == second.step == 8
    tensors, others = (load_file(checkpoint.folder / "state.safetensors") for checkpoint in (first, second))
    assert tensors.keys() == others.keys()
    assert any(name.startswith("seed/") for name in tensors)
    for name, tensor in tensors.items():
        assert (tensor == others[name]).all(), name
    for record, other in zip(first.history, second.history, strict=True):
        for name in record.keys() - TIMES:
            assert record[name] == pytest.approx(other[name], rel=rel, abs=0), (record["step"], name)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Strategy -> what a run ends with when nothing stops it."""

    @functools.cache
    def run(strategy: str) -> Path:
        run_dir = tmp_path_factory.mktemp(strategy) / "whole"
        assert_trained(train(data, run_dir, strategy))
        return run_dir

    return run


@pytest.mark.parametrize(
    ("strategy", "moments"),
    [
        ("single", ("half:2", "step:5", "validating:6")),
        ("mirrored", ("saved:2", "step:5")),
        pytest.param("single", MOMENTS, marks=pytest.mark.slow),
        pytest.param("mirrored", MOMENTS, marks=pytest.mark.slow),
    ],
)
def test_one_process(data, tmp_path, whole, strategy, moments):
    for moment in moments:
        ((code, output),) = train(data, tmp_path, strategy, moment)
        assert code == -signal.SIGKILL, output
    assert_trained(train(data, tmp_path, strategy))
    assert_same_run(whole(strategy), tmp_path)


def kill(data: Path, run_dir: Path, kind: str, step: int, worker: int) -> None:
    """Kills one of two workers; the other ends by itself and says what to do."""
    results = train(data, run_dir, "multi_worker", f"{kind}:{step}:{worker}")
    code, output = results[worker]
    assert code == -signal.SIGKILL, output
    code, output = results[1 - worker]
    assert code == 1, output
    assert "another of the 2 workers is gone" in output
    assert 'File "' not in output, output


@pytest.mark.parametrize(
    "moments",
    [
        (("half", 2, 0), ("step", 5, 1)),
        pytest.param(
            (("step", 1, 0), ("half", 2, 0), ("validating", 4, 1), ("saved", 6, 0), ("step", 7, 1)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_either_of_two_workers(data, tmp_path, whole, moments):
    for kind, step, worker in moments:
        kill(data, tmp_path, kind, step, worker)
    assert_trained(train(data, tmp_path, "multi_worker"))
    assert_same_run(whole("multi_worker"), tmp_path)


def test_both_workers_end_when_one_is_asked_to(data, tmp_path, whole):
    # Step 2 is recorded; worker 1 notes the signal before step 3, and all learn of it there.
    for code, output in train(data, tmp_path, "multi_worker", "asked:2:1"):
        assert code == 130, output
        assert f"interrupted; the same command resumes {tmp_path} from step 3." in output
    assert checkpoints.steps(tmp_path) == [2, 3]
    assert_trained(train(data, tmp_path, "multi_worker"))
    # What the workers measured until then was added up before it was saved.
    assert_same_run(whole("multi_worker"), tmp_path, rel=1e-6)
