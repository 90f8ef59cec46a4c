"""A run is a function of its seed: interrupted anywhere, it ends with the same bits."""

import json
import math
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging as absl_logging
from safetensors import safe_open
from tensorflow.core.util import event_pb2

from tests.tolerances import tolerance
from tests.training import tiny
from tfzoo.errors import CheckpointError, DataError, TfzooError
from tfzoo.training import checkpoints, fit, trainer
from tfzoo.training.measures import best_record

TIMES = {"seconds", "tokens_per_second", "peak_memory_bytes"}


def train(run_dir, model=None, *, validation=True, **changes):
    """Trains the tiny model and returns it with its history."""
    model = model or tiny.new_model()
    dataset = tiny.validation_dataset() if validation else None
    history = fit(model, tiny.train_dataset, tiny.config(**changes), run_dir, validation_dataset=dataset, verbose=0)
    return model, history


def without_times(history):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in history]


def assert_same_state(one, two):
    for first, second in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=first.path)
    for first, second in zip(one.optimizer.variables, two.optimizer.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=first.path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Four steps in one go: the run folder, the model, its history."""
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    return run_dir, *train(run_dir)


def test_two_and_two_steps_equal_four(uninterrupted, tmp_path):
    _, expected, history = uninterrupted
    train(tmp_path, num_steps=2)
    # Another seed: all that the resumed run needs must come from the checkpoint.
    model, resumed_history = train(tmp_path, tiny.new_model(seed=99))
    assert_same_state(model, expected)
    assert without_times(resumed_history) == without_times(history)
    assert [variable.numpy()[1] for variable in seed_states(model)] == [4, 4]


def seed_states(model):
    return [variable for variable in model.variables if "seed" in variable.path]


KILLED = """
import os, signal, sys
from tests.training import tiny
from tfzoo.training import checkpoints, fit

save_file = checkpoints.save_file

def save_first_half(tensors, path):
    save_file(tensors, path)
    if "step-00000004" in str(path):
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoints.save_file = save_first_half
fit(tiny.new_model(), tiny.train_dataset, tiny.config(), sys.argv[1], validation_dataset=tiny.validation_dataset(),
    verbose=0)
"""


def test_a_process_killed_while_it_saves_is_resumed(uninterrupted, tmp_path):
    _, expected, _ = uninterrupted
    process = subprocess.run([sys.executable, "-c", KILLED, tmp_path], env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert process.returncode == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [".tmp-step-00000004", "step-00000002"]
    model, _ = train(tmp_path, tiny.new_model(seed=99))
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
            train(tmp_path)
    assert read_metrics(tmp_path) == []
    model, history = train(tmp_path, tiny.new_model(seed=99))
    assert_same_state(model, expected)
    assert read_metrics(tmp_path) == history


SIGNALLED = """
import os, sys
from tests.training import tiny
from tfzoo.training import fit, trainer

number, step = int(sys.argv[2]), int(sys.argv[3])

class Recorder(trainer._Recorder):
    def on_train_batch_begin(self, batch, logs=None):
        if self.step + batch == step:
            os.kill(os.getpid(), number)
        super().on_train_batch_begin(batch, logs)

trainer._Recorder = Recorder
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
    model, history = train(run_dir, tiny.new_model(seed=99), **numbers)
    expected, expected_history = train(tmp_path / "uninterrupted", **numbers)
    assert_same_state(model, expected)
    # The metrics of the third step and of those before it go into one record, wherever the run was interrupted.
    assert without_times(history) == without_times(expected_history)
    assert read_metrics(run_dir) == history
    assert checkpoints.steps(run_dir) == checkpoints.steps(tmp_path / "uninterrupted")


def read_metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_returns_at_once(uninterrupted):
    run_dir, expected, history = uninterrupted

    def no_data(start_step):
        raise AssertionError("a finished run needs no data")

    model = tiny.new_model(seed=99)
    model({"token_ids": keras.Input((None,), dtype="int32")})
    again = fit(model, no_data, tiny.config(), run_dir, validation_dataset=tiny.validation_dataset(), verbose=0)
    assert again == history
    assert_same_state(model, expected)


def test_records(uninterrupted):
    run_dir, model, history = uninterrupted
    assert read_metrics(run_dir) == history
    measured = ["loss", "nats_per_token", "perplexity", "token_accuracy"]
    names = {
        "step",
        "learning_rate",
        "gradient_norm",
        "padding_share",
        *TIMES,
        *measured,
        *(f"val_{name}" for name in measured),
    }
    assert [set(record) for record in history] == [names, names]
    assert [record["step"] for record in history] == [2, 4]
    # Updates 2 and 4 of a warm-up of 3 steps to 0.05.
    assert [record["learning_rate"] for record in history] == pytest.approx([0.05 * 2 / 3, 0.05 * (3 / 4) ** 0.5])
    for record in history:
        assert record["perplexity"] == math.exp(record["nats_per_token"])
        assert record["seconds"] > 0
    num_tokens = sum(float(tf.reduce_sum(weights)) for _, _, weights in tiny.train_dataset(2).take(2))
    assert history[1]["tokens_per_second"] * history[1]["seconds"] == pytest.approx(num_tokens)
    num_positions = 2 * tiny.BATCH * tiny.LENGTH
    assert history[1]["padding_share"] == pytest.approx(1 - num_tokens / num_positions)


def test_padding_is_what_the_mask_says(tmp_path):
    def dataset(start_step):
        def add_mask(inputs, labels, weights):
            return {**inputs, "padding_mask": tf.constant([[1] * 5 + [0] * 2] * tiny.BATCH)}, labels, weights

        return tiny.train_dataset(start_step).map(add_mask)

    history = fit(tiny.new_model(), dataset, tiny.config(accumulation_steps=2), tmp_path, verbose=0)
    assert history[0]["padding_share"] == pytest.approx(2 / 7)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_the_gradient_norm_is_that_before_clipping(tmp_path, accumulation_steps):
    def norm(model):
        """The global norm of the gradient of the tokens' mean, by the definition."""
        weights, labels, logits = [], [], []
        with tf.GradientTape() as tape:
            for inputs, label, weight in tiny.train_dataset(0).take(accumulation_steps):
                logits.append(model(inputs))
                labels.append(label)
                weights.append(weight)
            joined = tf.concat(labels, 0), tf.concat(logits, 0)
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(*joined)
            loss = tf.reduce_sum(nats * tf.concat(weights, 0)) / tf.reduce_sum(weights)
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, model.trainable_variables)]
        return sum(np.square(gradient.numpy().astype(np.float64)).sum() for gradient in gradients) ** 0.5

    expected = norm(tiny.new_model(dropout=0.0))
    numbers = {"clip_norm": 0.05, "label_smoothing": 0.0, "num_steps": 1, "accumulation_steps": accumulation_steps}
    _, history = train(tmp_path, tiny.new_model(dropout=0.0), **numbers)
    assert expected > 0.1
    assert history[0]["gradient_norm"] == pytest.approx(expected, rel=1e-5)


def test_the_progress_line_has_the_numbers_of_the_record(tmp_path, capsys):
    model = tiny.new_model()
    history = fit(model, tiny.train_dataset, tiny.config(), tmp_path, verbose=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss:" in line]
    for line, record in zip(lines, history, strict=True):
        for name in ("loss", "learning_rate", "gradient_norm", "padding_share", "tokens_per_second"):
            assert f"{name}: {record[name]:.4f}" in line
    # A user's own fit afterwards is Keras' own.
    assert "padding_share" not in model.fit(tiny.train_dataset(0), steps_per_epoch=1, shuffle=False, verbose=0).history
    assert "compute_metrics" not in vars(model)


def test_validation_nats_equal_numpy(uninterrupted):
    _, model, history = uninterrupted
    nats, hits, num_tokens = 0.0, 0.0, 0.0
    for inputs, labels, weights in tiny.validation_dataset().as_numpy_iterator():
        logits = model(inputs).numpy().astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        nats -= (np.take_along_axis(log_probabilities, labels[..., None], -1)[..., 0] * weights).sum()
        hits += ((logits.argmax(axis=-1) == labels) * weights).sum()
        num_tokens += weights.sum()
    assert history[-1]["val_nats_per_token"] == pytest.approx(nats / num_tokens, rel=tolerance("numpy_loss"))
    assert history[-1]["val_token_accuracy"] == pytest.approx(hits / num_tokens)
    assert history[-1]["val_loss"] > history[-1]["val_nats_per_token"]


def read_summaries(folder):
    summaries = {}
    for path in folder.iterdir():
        for raw in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(raw.numpy())
            for value in event.summary.value:
                summaries.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return summaries


def test_tensorboard_goes_on_along_the_steps(tmp_path):
    train(tmp_path, num_steps=2)
    _, history = train(tmp_path)
    for folder, prefix in (("train", ""), ("validation", "val_")):
        summaries = read_summaries(tmp_path / "tensorboard" / folder)
        numbers = () if prefix else ("gradient_norm", "padding_share", "learning_rate", "tokens_per_second")
        for name in ("loss", "nats_per_token", "perplexity", "token_accuracy", *numbers):
            expected = {record["step"]: record[prefix + name] for record in history}
            assert summaries[name] == pytest.approx(expected)
    assert set(summaries) == {"loss", "nats_per_token", "perplexity", "token_accuracy"}


def test_steps_need_not_divide(tmp_path):
    model, history = train(tmp_path, num_steps=5, validation=False)
    assert [record["step"] for record in history] == [2, 4, 5]
    assert model.optimizer.iterations.numpy() == 5
    assert checkpoints.steps(tmp_path) == [2, 4, 5]
    _, history = train(tmp_path, num_steps=8, validation=False)
    assert [record["step"] for record in history] == [2, 4, 5, 7, 8]


def saved_state(run_dir, step):
    with safe_open(run_dir / "checkpoints" / f"step-{step:08d}" / "state.safetensors", framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def test_a_moving_average_is_validated_and_used_in_place_of_the_trained_weights(tmp_path, uninterrupted):
    decay = 0.75
    model, history = train(tmp_path, ema_decay=decay, checkpoint_steps=1, keep_checkpoints=4)
    averages, names = {}, {name.removeprefix("trained/") for name in saved_state(tmp_path, 1) if "trained/" in name}
    assert names == {"dense/bias", "dense/kernel", "embedding/embeddings"}
    for step in range(1, 5):
        state = saved_state(tmp_path, step)
        for name in names:
            trained = state[f"trained/{name}"].astype(np.float64)
            averages[name] = decay * averages[name] + (1 - decay) * trained if step > 1 else trained
            np.testing.assert_allclose(state[f"model/{name}"], averages[name], rtol=0, atol=1e-6)
        assert not any("average" in name for name in state)
    # The training itself is that of a run without an average.
    for name, value in saved_state(uninterrupted[0], 4).items():
        np.testing.assert_array_equal(state[name.replace("model/", "trained/")], value, err_msg=name)
    # The model ends with the average, and it is what was validated.
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), state[f"model/{weight.path.removeprefix('tiny/')}"])
    measured = model.evaluate(tiny.validation_dataset(), verbose=0, return_dict=True)
    assert measured["nats_per_token"] == pytest.approx(history[-1]["val_nats_per_token"])
    again, _ = train(tmp_path, tiny.new_model(seed=99), ema_decay=decay, checkpoint_steps=1, keep_checkpoints=4)
    assert_same_state(again, model)


@pytest.mark.parametrize("feature", [{"ema_decay": 0.75}, {"accumulation_steps": 2}])
def test_a_run_with_a_feature_is_resumed(tmp_path, feature):
    numbers = {**feature, "num_steps": 7, "checkpoint_steps": 3, "keep_checkpoints": 5}
    expected, history = train(tmp_path / "one", **numbers)
    interrupt_at(4, tmp_path / "two", **numbers)
    model, resumed_history = train(tmp_path / "two", tiny.new_model(seed=99), **numbers)
    assert_same_run(tmp_path, expected, history, model, resumed_history)


def assert_same_run(tmp_path, expected, history, model, resumed_history):
    """Equal state at the end and at every checkpoint of the runs `one` and `two`, and equal records."""
    assert_same_state(model, expected)
    assert without_times(resumed_history) == without_times(history)
    assert checkpoints.steps(tmp_path / "two") == checkpoints.steps(tmp_path / "one")
    for step in checkpoints.steps(tmp_path / "one"):
        one, two = (saved_state(tmp_path / name, step) for name in ("one", "two"))
        assert one.keys() == two.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(two[name], value, err_msg=f"{name} of step {step}")


def interrupt_at(step, run_dir, **numbers):
    """Trains until SIGTERM, which comes when `step` steps are done."""

    original = trainer._Recorder.on_train_batch_begin

    def batch_begin(self, batch, logs=None):
        if self.step + batch == step:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer._Recorder, "on_train_batch_begin", batch_begin)
        with pytest.raises(KeyboardInterrupt, match=f"interrupted at step {step}"):
            train(run_dir, **numbers)
    assert checkpoints.newest(run_dir).step == step


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
    _, history = train(tmp_path, num_steps=6, validation=False, keep_checkpoints=1)
    assert not any(name.startswith("val_") for name in history[-1])
    by_nats = min(history, key=lambda record: record["nats_per_token"])
    assert checkpoints.best(tmp_path).step == by_nats["step"]


def test_a_diverged_run_keeps_its_last_finite_checkpoint(tmp_path):
    train(tmp_path, num_steps=2)
    with pytest.raises(TfzooError, match=r"training diverged: \w+=(nan|inf) at step 4. Lower `learning_rate` or raise"):
        train(tmp_path, learning_rate=1e38, label_smoothing=0.0)
    assert checkpoints.steps(tmp_path) == [2]


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
        train(uninterrupted[0], tiny.new_model(dim=5))


def test_mirrored_run_resumes(mirrored, tmp_path):
    def mirrored_run(run_dir, seed, **changes):
        with mirrored.scope():
            model = tiny.new_model(seed, dropout=0.0)
        return train(run_dir, model, **changes)

    mirrored_run(tmp_path / "two", 1, num_steps=2)
    resumed, history = mirrored_run(tmp_path / "two", 99)
    one_device, expected = train(tmp_path / "one", tiny.new_model(dropout=0.0))
    for one, two in zip(one_device.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    for name in ("loss", "nats_per_token", "val_loss", "val_nats_per_token", "token_accuracy"):
        assert [record[name] for record in history] == pytest.approx([record[name] for record in expected], rel=1e-5)


def test_a_run_goes_on_on_more_devices_and_on_fewer(mirrored, tmp_path, caplog):
    def run(name, strategy, num_steps, seed=1):
        with strategy.scope():
            model = tiny.new_model(seed, dropout=0.0)
        train(tmp_path / name, model, num_steps=num_steps)
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
