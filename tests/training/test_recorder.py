"""Every number of a record is what its definition says, wherever it is written."""

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from tests.tolerances import tolerance
from tests.training import tiny
from tests.training.comparison import assert_same_state, read_metrics, saved_state
from tfzoo.errors import TfzooError
from tfzoo.training import checkpoints, fit


def test_records(uninterrupted):
    run_dir, model, history = uninterrupted
    assert read_metrics(run_dir) == history
    measured = ["loss", "nats_per_token", "perplexity", "token_accuracy"]
    names = {
        "step",
        "learning_rate",
        "gradient_norm",
        "padding_share",
        "seconds",
        "tokens_per_second",
        "peak_memory_bytes",
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
    _, history = tiny.train(tmp_path, tiny.new_model(dropout=0.0), **numbers)
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
    tiny.train(tmp_path, num_steps=2)
    _, history = tiny.train(tmp_path)
    for folder, prefix in (("train", ""), ("validation", "val_")):
        summaries = read_summaries(tmp_path / "tensorboard" / folder)
        numbers = () if prefix else ("gradient_norm", "padding_share", "learning_rate", "tokens_per_second")
        for name in ("loss", "nats_per_token", "perplexity", "token_accuracy", *numbers):
            expected = {record["step"]: record[prefix + name] for record in history}
            assert summaries[name] == pytest.approx(expected)
    assert set(summaries) == {"loss", "nats_per_token", "perplexity", "token_accuracy"}


def test_a_moving_average_is_validated_and_used_in_place_of_the_trained_weights(tmp_path, uninterrupted):
    decay = 0.75
    model, history = tiny.train(tmp_path, ema_decay=decay, checkpoint_steps=1, keep_checkpoints=4)
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
    again, _ = tiny.train(tmp_path, tiny.new_model(seed=99), ema_decay=decay, checkpoint_steps=1, keep_checkpoints=4)
    assert_same_state(again, model)


def test_a_diverged_run_keeps_its_last_finite_checkpoint(tmp_path):
    tiny.train(tmp_path, num_steps=2)
    with pytest.raises(TfzooError, match=r"training diverged: \w+=(nan|inf) at step 4. Lower `learning_rate` or raise"):
        tiny.train(tmp_path, learning_rate=1e38, label_smoothing=0.0)
    assert checkpoints.steps(tmp_path) == [2]
