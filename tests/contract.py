"""What the promises to every family are stated with; `test_contract.py` and `test_encoder_contract.py` hold them."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.zoo import ZOO

B, T, V = 3, 7, 37  # distinct and odd, so that a mixed-up axis shows
FIRST_WORD = 4  # ids below are special
# No training run ends in fewer nats per token by luck: a uniform guess costs log(37) = 3.61.
OVERFIT_NATS = 0.05
MAX_LENGTH = 11
TOO_LONG = (
    f"a sequence must not be longer than `max_sequence_length`; received {MAX_LENGTH + 1} tokens, "
    f"max_sequence_length={MAX_LENGTH}. Shorten the input or configure more positions."
)
# The tasks whose models write text; those of all others are encoders.
GENERATIVE = ("seq2seq", "causal_lm")


def is_tiny(name):
    """Whether a zoo entry is small enough to be held to every promise."""
    return name.endswith("_tiny") or "_tiny_" in name


def tiny_entries(generative):
    """Names of the tiny entries whose models write text, or of those that do not."""
    return [name for name in ZOO if is_tiny(name) and (ZOO[name].task in GENERATIVE) == generative]


def families(names):
    return {ZOO[name].recipe().family for name in names}


def randomize(model, noise):
    """Adds noise to every weight, biases and scales included."""
    generator = np.random.default_rng(7)
    for variable in model.trainable_variables:
        variable.assign_add(generator.normal(0, noise, variable.shape))


def copy_weights(source, target):
    for new, old in zip(target.trainable_variables, source.trainable_variables, strict=True):
        assert new.path == old.path
        new.assign(old)


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """Variable path below the model's name -> value."""
    return {variable.path.partition("/")[2]: variable.numpy() for variable in model.trainable_variables}


@contextlib.contextmanager
def two_replicas(two_cpus, collective_key):
    """A strategy of two replicas; its collectives are numbered apart from those of others in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.distribute.MirroredStrategy, "_collective_key_base", collective_key)
        yield tf.distribute.MirroredStrategy(two_cpus)


def assert_one_batch_overfits(model, loss, batch, learning_rate):
    model.compile(optimizer=keras.optimizers.Adam(learning_rate), loss=loss)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    losses = model.fit(dataset, steps_per_epoch=10, epochs=15, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < OVERFIT_NATS


def assert_two_devices_equal_one(new_model, loss, data, strategy, unseen):
    """Two epochs in batches of 4 rows end alike, and move every variable.

    Args:
        new_model: makes a model without dropout, always with the same weights.
        loss: what is minimized.
        data: the rows.
        strategy: the two devices.
        unseen: ends of the paths of variables that the loss does not depend on.
    """

    def train():
        model = new_model()
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(4)
        losses = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history["loss"]
        return losses, weights(model)

    start = weights(new_model())
    losses, one = train()
    with strategy.scope():
        mirrored_losses, two = train()
    assert mirrored_losses == pytest.approx(losses, rel=tolerance("numpy_loss"))
    for path, before in start.items():
        np.testing.assert_allclose(two[path], one[path], rtol=0, atol=tolerance("two_replicas"), err_msg=path)
        if not path.endswith(unseen):
            assert np.abs(one[path] - before).max() > 50 * tolerance("two_replicas"), path
