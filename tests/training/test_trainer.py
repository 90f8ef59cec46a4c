"""A run is a function of its seed: trained in parts, it ends with the same bits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging as absl_logging

from tests.tolerances import tolerance
from tests.training import tiny
from tests.training.comparison import assert_same_state, without_times
from tfzoo.errors import CheckpointError, DataError
from tfzoo.training import checkpoints, fit
from tfzoo.training.measures import best_record


def test_two_and_two_steps_equal_four(uninterrupted, tmp_path):
    _, expected, history = uninterrupted
    tiny.train(tmp_path, num_steps=2)
    # Another seed: all that the resumed run needs must come from the checkpoint.
    model, resumed_history = tiny.train(tmp_path, tiny.new_model(seed=99))
    assert_same_state(model, expected)
    assert without_times(resumed_history) == without_times(history)
    assert [variable.numpy()[1] for variable in seed_states(model)] == [4, 4]


def seed_states(model):
    return [variable for variable in model.variables if "seed" in variable.path]


def test_a_finished_run_returns_at_once(uninterrupted):
    run_dir, expected, history = uninterrupted

    def no_data(start_step):
        raise AssertionError("a finished run needs no data")

    model = tiny.new_model(seed=99)
    model({"token_ids": keras.Input((None,), dtype="int32")})
    again = fit(model, no_data, tiny.config(), run_dir, validation_dataset=tiny.validation_dataset(), verbose=0)
    assert again == history
    assert_same_state(model, expected)


def test_steps_need_not_divide(tmp_path):
    model, history = tiny.train(tmp_path, num_steps=5, validation=False)
    assert [record["step"] for record in history] == [2, 4, 5]
    assert model.optimizer.iterations.numpy() == 5
    assert checkpoints.steps(tmp_path) == [2, 4, 5]
    _, history = tiny.train(tmp_path, num_steps=8, validation=False)
    assert [record["step"] for record in history] == [2, 4, 5, 7, 8]


def contrary_dataset():
    """Asks for other labels than training teaches, so that the first checkpoint is the best."""
    return tiny.batches([100], label=lambda token_ids: (token_ids + 2) % tiny.VOCABULARY)


def overtrain(run_dir, num_steps=12):
    model = tiny.new_model()
    config = tiny.config(num_steps=num_steps, early_stopping_patience=2, keep_checkpoints=1, learning_rate=0.5)
    return model, fit(model, tiny.train_dataset, config, run_dir, validation_dataset=contrary_dataset(), verbose=0)


def test_early_stopping_outlives_a_resume(tmp_path):
    overtrain(tmp_path, num_steps=4)
    model, history = overtrain(tmp_path)
    assert [record["step"] for record in history] == [2, 4, 6]
    assert best_record(history)["step"] == 2
    assert checkpoints.steps(tmp_path) == [2, 6]
    _, again = overtrain(tmp_path)
    assert again == history


def test_the_best_weights_load_on_request(tmp_path):
    model, history = overtrain(tmp_path)
    for record, checkpoint in ((history[-1], None), (history[0], checkpoints.best(tmp_path))):
        if checkpoint:
            checkpoints.load_weights(model, checkpoint)
        measured = model.evaluate(contrary_dataset(), verbose=0, return_dict=True)
        assert measured["nats_per_token"] == pytest.approx(record["val_nats_per_token"])


def test_without_validation_training_decides(tmp_path):
    _, history = tiny.train(tmp_path, num_steps=6, validation=False, keep_checkpoints=1)
    assert not any(name.startswith("val_") for name in history[-1])
    by_nats = min(history, key=lambda record: record["nats_per_token"])
    assert checkpoints.best(tmp_path).step == by_nats["step"]


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_training_data_that_ends(tmp_path):
    with pytest.raises(DataError, match=r"`train_dataset` ended at step 3 of num_steps=4; make it endless with repeat"):
        fit(tiny.new_model(), lambda step: tiny.train_dataset(step).take(3), tiny.config(), tmp_path, verbose=0)
    assert checkpoints.steps(tmp_path) == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dataset: dataset.take(0), "`validation_dataset` is empty; pass data or None."),
        (lambda dataset: dataset.filter(lambda *_: False), "`validation_dataset` is empty; pass data or None."),
        (lambda dataset: dataset.repeat(), "`validation_dataset` is endless; make it with repeat=False."),
    ],
)
def test_validation_data_must_end(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        fit(
            tiny.new_model(),
            tiny.train_dataset,
            tiny.config(),
            tmp_path,
            validation_dataset=change(tiny.validation_dataset()),
            verbose=0,
        )


def test_validation_data_of_unknown_size(tmp_path, uninterrupted):
    dataset = tiny.validation_dataset().filter(lambda *_: True)
    history = fit(tiny.new_model(), tiny.train_dataset, tiny.config(), tmp_path, validation_dataset=dataset, verbose=0)
    assert without_times(history) == without_times(uninterrupted[2])


def test_another_model_in_the_run(uninterrupted):
    with pytest.raises(CheckpointError, match="does not fit the model: 'model/dense/kernel' is float32"):
        tiny.train(uninterrupted[0], tiny.new_model(dim=5))


def test_mirrored_run_resumes(mirrored, tmp_path):
    def mirrored_run(run_dir, seed, **changes):
        with mirrored.scope():
            model = tiny.new_model(seed, dropout=0.0)
        return tiny.train(run_dir, model, **changes)

    mirrored_run(tmp_path / "two", 1, num_steps=2)
    resumed, history = mirrored_run(tmp_path / "two", 99)
    one_device, expected = tiny.train(tmp_path / "one", tiny.new_model(dropout=0.0))
    for one, two in zip(one_device.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    for name in ("loss", "nats_per_token", "val_loss", "val_nats_per_token", "token_accuracy"):
        assert [record[name] for record in history] == pytest.approx([record[name] for record in expected], rel=1e-5)


def test_a_run_goes_on_on_more_devices_and_on_fewer(mirrored, tmp_path, caplog):
    def run(name, strategy, num_steps, seed=1):
        with strategy.scope():
            model = tiny.new_model(seed, dropout=0.0)
        tiny.train(tmp_path / name, model, num_steps=num_steps)
        return model.get_weights()

    one = tf.distribute.get_strategy()
    expected = run("one", one, 4)
    run("more", one, 2)
    run("fewer", mirrored, 2)
    caplog.set_level("INFO")
    absl_logging.set_verbosity(absl_logging.INFO)
    for name, strategy, message in (
        ("more", mirrored, "saved on 1 device, goes on on 2: weights, optimizer, the place in the data and the rows"),
        ("fewer", one, "saved on 2 devices, goes on on 1: weights, optimizer, the place in the data and the rows"),
    ):
        caplog.clear()
        for value, other in zip(run(name, strategy, 4, seed=99), expected, strict=True):
            np.testing.assert_allclose(value, other, rtol=0, atol=tolerance("twenty_steps"))
        assert message in caplog.text
        assert [checkpoints.at(tmp_path / name, step).num_devices for step in (2, 4)] == [1, 2][
            :: 1 if name == "more" else -1
        ]
