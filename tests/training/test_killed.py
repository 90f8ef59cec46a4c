"""`tfzoo train`, killed at several moments in processes of its own, ends with the bits of an uninterrupted run.

Dropout, shuffling, gradient accumulation and a moving average are on.
"""

import signal
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests import tiny_run
from tests.training import killed, two_workers
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("two_workers")

TIMES = {"seconds", "tokens_per_second", "flops_utilisation", "peak_memory_bytes"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    for name, words in (("train", tiny_run.WORDS[:17]), ("validation", tiny_run.WORDS[-5:])):
        (directory / f"{name}.tsv").write_text("".join(map(tiny_run.pair, words)), encoding="utf-8")
    return directory


def train(data: Path, run_dir: Path, strategy: str, moment: str = "none") -> list[tuple[int, str]]:
    """Exit code and output of each process."""
    return two_workers.finished(
        killed.__name__,
        moment,
        "2" if strategy == "mirrored" else "1",
        "train",
        "--recipe=transformer_tiny_g2p",
        f"--run_dir={run_dir}",
        f"--data=tsv:{data / 'train.tsv'}",
        f"--validation_data=tsv:{data / 'validation.tsv'}",
        f"--strategy={strategy}",
        configs=two_workers.tf_configs() if strategy == "multi_worker" else [None],
    )


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


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single", "mirrored"])
def test_one_process(data, tmp_path, strategy):
    assert_trained(train(data, tmp_path / "whole", strategy))
    for moment in ("step:1", "half:2", "saved:4", "step:5", "validating:6"):
        ((code, output),) = train(data, tmp_path / "killed", strategy, moment)
        assert code == -signal.SIGKILL, output
    assert_trained(train(data, tmp_path / "killed", strategy))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What two workers end with when nothing stops them."""
    run_dir = tmp_path_factory.mktemp("workers") / "whole"
    assert_trained(train(data, run_dir, "multi_worker"))
    return run_dir


def kill(data: Path, run_dir: Path, kind: str, step: int, worker: int) -> None:
    """Kills one of two workers; the other ends by itself and says what to do."""
    results = train(data, run_dir, "multi_worker", f"{kind}:{step}:{worker}")
    code, output = results[worker]
    assert code == -signal.SIGKILL, output
    code, output = results[1 - worker]
    assert code == 1, output
    assert "another of the 2 workers is gone" in output


def test_one_of_two_workers(data, tmp_path, whole):
    kill(data, tmp_path, "step", 5, worker=1)
    assert checkpoints.steps(tmp_path) == [2, 4]
    assert_trained(train(data, tmp_path, "multi_worker"))
    assert_same_run(whole, tmp_path)


@pytest.mark.slow
def test_either_of_two_workers_at_several_moments(data, tmp_path, whole):
    for kind, step, worker in (("step", 1, 0), ("half", 2, 0), ("validating", 4, 1), ("saved", 6, 0), ("step", 7, 1)):
        kill(data, tmp_path, kind, step, worker)
    assert_trained(train(data, tmp_path, "multi_worker"))
    assert_same_run(whole, tmp_path)


@pytest.mark.slow
def test_both_workers_end_when_one_is_asked_to(data, tmp_path, whole):
    # Step 2 is recorded; worker 1 notes the signal before step 3, and all learn of it there.
    for code, output in train(data, tmp_path, "multi_worker", "asked:2:1"):
        assert code == 130, output
        assert f"interrupted; the same command resumes {tmp_path} from step 3." in output
    assert checkpoints.steps(tmp_path) == [2, 3]
    assert_trained(train(data, tmp_path, "multi_worker"))
    # What the workers measured until then was added up before it was saved.
    assert_same_run(whole, tmp_path, rel=1e-6)
