"""A run that ends at any moment, by itself or by force, goes on to the bits of an uninterrupted one."""

import os
import signal
import subprocess
import sys

import pytest

from tests.training import tiny
from tests.training.comparison import assert_same_checkpoints, assert_same_state, read_metrics, without_times
from tfzoo.training import checkpoints
from tfzoo.training.recorder import Recorder

KILLED = """
import os, signal, sys
from tests.training import tiny
from tfzoo.training import checkpoint_files, fit

save_file = checkpoint_files.save_file

def save_first_half(tensors, path):
    save_file(tensors, path)
    if "step-00000004" in str(path):
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint_files.save_file = save_first_half
fit(tiny.new_model(), tiny.train_dataset, tiny.config(), sys.argv[1], validation_dataset=tiny.validation_dataset(),
    verbose=0)
"""


def test_a_process_killed_while_it_saves_is_resumed(uninterrupted, tmp_path):
    _, expected, _ = uninterrupted
    process = subprocess.run([sys.executable, "-c", KILLED, tmp_path], env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert process.returncode == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [".tmp-step-00000004", "step-00000002"]
    model, _ = tiny.train(tmp_path, tiny.new_model(seed=99))
    assert_same_state(model, expected)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]


def test_keyboard_interrupt_propagates_and_is_resumed(uninterrupted, tmp_path, monkeypatch):
    _, expected, _ = uninterrupted

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # After the checkpoint, before its line in metrics.jsonl.
        patch.setattr(checkpoints, "prune", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tiny.train(tmp_path)
    assert read_metrics(tmp_path) == []
    model, history = tiny.train(tmp_path, tiny.new_model(seed=99))
    assert_same_state(model, expected)
    assert read_metrics(tmp_path) == history


SIGNALLED = """
import os, sys
from tests.training import tiny
from tfzoo.training import fit, trainer

number, step = int(sys.argv[2]), int(sys.argv[3])

class Recorder(trainer.Recorder):
    def on_train_batch_begin(self, batch, logs=None):
        if self.step + batch == step:
            os.kill(os.getpid(), number)
        super().on_train_batch_begin(batch, logs)

trainer.Recorder = Recorder
fit(tiny.new_model(), tiny.train_dataset, tiny.config(num_steps=7, checkpoint_steps=3, keep_checkpoints=1), sys.argv[1],
    validation_dataset=tiny.validation_dataset(), verbose=0)
"""


@pytest.mark.parametrize(
    ("number", "step", "kept"), [(signal.SIGTERM, 4, [3, 4]), (signal.SIGINT, 2, [2]), (signal.SIGTERM, 0, [])]
)
def test_a_signal_ends_a_run_between_two_checkpoints(tmp_path, number, step, kept):
    numbers = {"num_steps": 7, "checkpoint_steps": 3, "keep_checkpoints": 1}
    run_dir = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-c", SIGNALLED, run_dir, str(int(number)), str(step)],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert process.returncode == -signal.SIGINT, process.stderr  # how Python itself ends by KeyboardInterrupt
    assert f"KeyboardInterrupt: interrupted at step {step}." in process.stderr
    assert checkpoints.steps(run_dir) == kept
    if not step:
        return
    assert checkpoints.best(run_dir).step == kept[0]
    model, history = tiny.train(run_dir, tiny.new_model(seed=99), **numbers)
    expected, expected_history = tiny.train(tmp_path / "uninterrupted", **numbers)
    assert_same_state(model, expected)
    # The metrics of the third step and of those before it go into one record, wherever the run was interrupted.
    assert without_times(history) == without_times(expected_history)
    assert read_metrics(run_dir) == history
    assert checkpoints.steps(run_dir) == checkpoints.steps(tmp_path / "uninterrupted")


@pytest.mark.parametrize("feature", [{"ema_decay": 0.75}, {"accumulation_steps": 2}])
def test_a_run_with_a_feature_is_resumed(tmp_path, feature):
    numbers = {**feature, "num_steps": 7, "checkpoint_steps": 3, "keep_checkpoints": 5}
    expected, history = tiny.train(tmp_path / "one", **numbers)
    interrupt_at(4, tmp_path / "two", **numbers)
    model, resumed_history = tiny.train(tmp_path / "two", tiny.new_model(seed=99), **numbers)
    assert_same_state(model, expected)
    assert without_times(resumed_history) == without_times(history)
    assert_same_checkpoints(tmp_path / "one", tmp_path / "two")


def interrupt_at(step, run_dir, **numbers):
    """Trains until SIGTERM, which comes when `step` steps are done."""

    original = Recorder.on_train_batch_begin

    def batch_begin(self, batch, logs=None):
        if self.step + batch == step:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_begin", batch_begin)
        with pytest.raises(KeyboardInterrupt, match=f"interrupted at step {step}"):
            tiny.train(run_dir, **numbers)
    assert checkpoints.newest(run_dir).step == step
