"""An update of several batches is that of one batch of all their rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from tests.tolerances import tolerance
from tests.training import tiny
from tfzoo.errors import DataError, RecipeError
from tfzoo.models import LstmLanguageModel, LstmLmConfig
from tfzoo.training import checkpoints, fit
from tfzoo.training.accumulation import accumulated
from tfzoo.training.losses import CrossEntropy, InBatchContrastive
from tfzoo.training.optimizers import SGD

NUM_BATCHES = 3
# So large an epsilon makes Adam's update grow with the gradient: a norm that is clipped otherwise is seen.
NUMBERS = {"clip_norm": 0.05, "epsilon": 1.0, "learning_rate": 100.0, "num_steps": 4, "checkpoint_steps": 2}


def together(start_step):
    """The rows of `NUM_BATCHES` batches in one."""

    def join(tensor):
        return tf.reshape(tensor, [NUM_BATCHES * tiny.BATCH, tiny.LENGTH])

    batches = tiny.batches(range(16)).batch(NUM_BATCHES, drop_remainder=True)
    return batches.map(lambda *batch: tf.nest.map_structure(join, batch)).skip(start_step).repeat()


def train(run_dir, dataset, **changes):
    model = tiny.new_model(dropout=0.0)
    validation = tiny.validation_dataset()
    return model, fit(
        model, dataset, tiny.config(**NUMBERS | changes), run_dir, validation_dataset=validation, verbose=0
    )


def test_it_equals_one_large_batch(tmp_path):
    num_tokens = [int(tf.reduce_sum(weights)) for _, _, weights in tiny.batches(range(NUM_BATCHES))]
    assert len(set(num_tokens)) == NUM_BATCHES
    before = tiny.new_model(dropout=0.0)
    _ = before({"token_ids": np.zeros((1, 1), np.int32)})
    one, expected = train(tmp_path / "one", together)
    several, history = train(tmp_path / "several", tiny.train_dataset, accumulation_steps=NUM_BATCHES)
    assert several.optimizer.iterations.numpy() == 4
    for start, large, small in zip(before.get_weights(), one.get_weights(), several.get_weights(), strict=True):
        assert np.abs(large - start).max() > 0.01
        np.testing.assert_allclose(small, large, rtol=0, atol=1e-6)
    for mine, theirs in zip(history, expected, strict=True):
        for name in ("nats_per_token", "token_accuracy", "val_nats_per_token"):
            assert mine[name] == pytest.approx(theirs[name], rel=tolerance("numpy_loss")), name
        assert mine["tokens_per_second"] * mine["seconds"] == pytest.approx(
            theirs["tokens_per_second"] * theirs["seconds"]
        )


def test_keras_fit_is_as_before_afterwards():
    def updates(model):
        model.compile(optimizer=SGD(0.1), loss=CrossEntropy())
        model.optimizer.build(model.trainable_variables)
        with accumulated(model, NUM_BATCHES):
            model.fit(tiny.train_dataset(0), steps_per_epoch=2, shuffle=False, verbose=0)
        accumulated_updates = int(model.optimizer.iterations.numpy())
        model.fit(tiny.train_dataset(0), steps_per_epoch=2, shuffle=False, verbose=0)
        return accumulated_updates, int(model.optimizer.iterations.numpy())

    model = tiny.new_model()
    model({"token_ids": keras.Input((None,), dtype="int32")})
    assert updates(model) == (2, 4)
    assert model.train_function is not None


def windows(first_batch):
    """Three rows of one long stream in windows; of four batches, the first two begin anew."""
    token_ids = np.random.default_rng(3).integers(1, 11, (16, 3, 6)).astype(np.int32)
    continues = np.array([[0], [0], [1], [1]] * 4) * np.ones((16, 3), int)
    features = {"token_ids": token_ids[..., :-1], "padding_mask": np.ones((16, 3, 5), np.int32)}
    features["continues"] = continues.astype(np.int32)
    weights = np.ones((16, 3, 5), np.float32)
    dataset = tf.data.Dataset.from_tensor_slices((features, token_ids[..., 1:], weights))
    return dataset.skip(first_batch).repeat()


def test_a_state_carried_from_batch_to_batch_goes_on_within_an_update_and_over_a_resume(tmp_path):
    config = LstmLmConfig(vocabulary_size=11, embedding_dim=4, hidden_dim=6, num_layers=2, dropout=0.2, weight_drop=0.3)

    def trained(run_dir, seed=1, **changes):
        keras.utils.set_random_seed(seed)
        model = LstmLanguageModel(config, carried_batch_size=3, name="lstm")
        numbers = {"num_steps": 4, "checkpoint_steps": 2, "accumulation_steps": 2, "ema_decay": 0.5, **changes}
        fit(model, windows, tiny.config(**numbers), run_dir, verbose=0)
        return checkpoints.newest(run_dir)

    whole = trained(tmp_path / "one")
    trained(tmp_path / "two", num_steps=2)
    assert trained(tmp_path / "two", seed=99).sha256 == whole.sha256
    states = [value for name, value in load_file(whole.tensors_path).items() if name.startswith("seed/")]
    assert sum(bool(state.shape[:1] == (3,) and np.abs(state).min() > 0) for state in states) == 4


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_data_that_ends_within_an_update(tmp_path):
    with pytest.raises(DataError, match="`train_dataset` ended at step 3 of num_steps=4"):
        train(
            tmp_path, lambda batch: tiny.train_dataset(batch).take(7 - batch), accumulation_steps=2, checkpoint_steps=4
        )


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_two_devices_equal_one(mirrored, tmp_path, ema_decay):
    changes = {"accumulation_steps": NUM_BATCHES, "ema_decay": ema_decay, "clip_norm": 0.05}
    one, expected = train(tmp_path / "one", tiny.train_dataset, **changes)
    with mirrored.scope():
        model = tiny.new_model(dropout=0.0)
    validation = tiny.validation_dataset()
    history = fit(
        model,
        tiny.train_dataset,
        tiny.config(**NUMBERS | changes),
        tmp_path / "two",
        validation_dataset=validation,
        verbose=0,
    )
    for before, after in zip(one.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    for mine, theirs in zip(history, expected, strict=True):
        for name in ("loss", "nats_per_token", "token_accuracy", "val_loss", "val_nats_per_token", "gradient_norm"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5), name


def test_texts_that_are_compared_over_devices_are_refused(mirrored):
    with mirrored.scope():
        model = tiny.new_model()
    model.compile(loss=InBatchContrastive())
    message = (
        "`accumulation_steps` above 1 needs one device where texts are compared .* accumulation_steps=2 and 2 repl"
    )
    with pytest.raises(RecipeError, match=message), accumulated(model, 2):
        pass
