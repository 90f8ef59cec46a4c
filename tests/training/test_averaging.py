"""Which checkpoints are averaged, and that their mean is what a model gets."""

import numpy as np
import pytest

from tests.training import tiny
from tfzoo.errors import CheckpointError
from tfzoo.training import averaging, checkpoints


def test_the_mean_of_the_last_checkpoints(tmp_path):
    models = [tiny.compiled(seed) for seed in (1, 2, 3, 4)]
    for num, model in enumerate(models, start=1):
        checkpoints.save(model, tmp_path, tiny.history(*range(num)))  # the first is the best
        checkpoints.prune(tmp_path, 3)
    checkpoints.save_between(models[0], tmp_path, tiny.history(*range(4)), 47, {})
    assert checkpoints.steps(tmp_path) == [10, 20, 30, 40, 47]
    averaged = averaging.last(tmp_path, 3)
    assert [checkpoint.step for checkpoint in averaged] == [20, 30, 40]
    model = tiny.compiled(seed=5)
    before = [variable.numpy() for variable in model.optimizer.variables]
    checkpoints.load_weights(model, *averaged)
    for weight, *others in zip(model.get_weights(), *(one.get_weights() for one in models[1:]), strict=True):
        expected = np.mean(np.stack(others).astype(np.float64), axis=0)
        np.testing.assert_array_equal(weight, expected.astype(np.float32))
    for variable, value in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    checkpoints.load_weights(model, averaged[-1])
    for weight, expected in zip(model.get_weights(), models[3].get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_the_best_are_kept_and_averaged(tmp_path):
    models = [tiny.compiled(seed) for seed in range(6)]
    nats = [3.0, 1.0, 2.0, 1.0, 5.0, 4.0]
    for num, model in enumerate(models, start=1):
        checkpoints.save(model, tmp_path, tiny.history(*nats[:num]))
        checkpoints.prune(tmp_path, 1, keep_best=3)
        if num == 4:  # in the middle of the training
            assert [one.step for one in averaging.best(tmp_path, 3)] == [20, 30, 40]
    assert checkpoints.steps(tmp_path) == [20, 30, 40, 60]
    assert [one.step for one in averaging.best(tmp_path, 2)] == [20, 40]
    averaged = averaging.best(tmp_path, 3)
    assert [one.step for one in averaged] == [20, 30, 40]
    model = tiny.compiled(seed=9)
    checkpoints.load_weights(model, *averaged)
    for weight, *others in zip(model.get_weights(), *(one.get_weights() for one in models[1:4]), strict=True):
        np.testing.assert_array_equal(weight, np.mean(np.stack(others).astype(np.float64), axis=0).astype(np.float32))
    with pytest.raises(CheckpointError, match=r"average='best' needs the 4 best checkpoints; .* holds 3 of them"):
        averaging.best(tmp_path, 4)


def test_what_is_monitored_decides_which_are_best(tmp_path):
    model = tiny.compiled()
    records = []
    for step, accuracy in ((10, 0.5), (20, 0.9), (30, 0.1), (40, 0.7)):
        records.append({"step": step, "loss": step / 10, "accuracy": accuracy, "val_loss": 5 - step / 10})
        checkpoints.save(model, tmp_path, records)
        checkpoints.prune(tmp_path, 1, "accuracy", keep_best=2)
    assert checkpoints.steps(tmp_path) == [20, 40]
    assert [one.step for one in averaging.best(tmp_path, 2, "accuracy")] == [20, 40]
    with pytest.raises(CheckpointError, match="holds 1 of them"):
        averaging.best(tmp_path, 2, "loss")  # those of validation are 30 and 40


def test_too_few_checkpoints_to_average(tmp_path):
    run = tmp_path / "run"
    checkpoints.save(tiny.compiled(), run, tiny.history(2.5))
    message = (
        r"average_checkpoints=2 needs the last 2 checkpoints; .*checkpoints holds 1 of them. Train the run further"
    )
    with pytest.raises(CheckpointError, match=message):
        averaging.last(run, 2)
    # The best one is there, but is not one of the last.
    for num in range(2, 5):
        checkpoints.save(tiny.compiled(), run, tiny.history(*range(num)))
        checkpoints.prune(run, 1)
    assert checkpoints.steps(run) == [10, 40]
    with pytest.raises(CheckpointError, match="holds 1 of them"):
        averaging.last(run, 2)
    # Nor are weights from elsewhere a checkpoint of the training.
    checkpoints.begin(tmp_path / "new", {"dense/bias": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match="holds 0 of them"):
        averaging.last(tmp_path / "new", 1)
