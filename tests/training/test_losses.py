"""The loss against NumPy in float64, and its one meaning on one device and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.tolerances import tolerance
from tfzoo.training.losses import cross_entropy

BATCH, LENGTH, VOCABULARY = 4, 7, 37


def numpy_cross_entropy(labels, logits, weights, label_smoothing):
    """The definition: mean over weights of -sum(q * log(p)), q = (1 - e) * one_hot + e / V, in float64."""
    logits = np.asarray(logits, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    targets = (1 - label_smoothing) * np.eye(logits.shape[-1])[labels] + label_smoothing / logits.shape[-1]
    return (-(targets * np.log(probabilities)).sum(axis=-1) * weights).sum() / weights.sum()


@pytest.fixture
def batch():
    """Labels, logits, and weights with 1 to 7 real tokens a row: the first half has 3, the second 12."""
    generator = np.random.default_rng(3)
    labels = generator.integers(VOCABULARY, size=(BATCH, LENGTH)).astype(np.int32)
    logits = (3 * generator.normal(size=(BATCH, LENGTH, VOCABULARY))).astype(np.float32)
    weights = (np.arange(LENGTH) < np.array([[1], [2], [5], [7]])).astype(np.float32)
    return labels, logits, weights


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_numpy(batch, label_smoothing, weighted):
    labels, logits, weights = batch
    expected = numpy_cross_entropy(labels, logits, weights if weighted else np.ones_like(weights), label_smoothing)
    loss = cross_entropy(label_smoothing)(labels, tf.constant(logits), weights if weighted else None)
    assert loss.dtype == "float32"
    assert float(loss) == pytest.approx(expected, rel=tolerance("numpy_loss"))


def test_padding_changes_nothing(batch):
    labels, logits, weights = batch
    wide = [np.pad(array, [(0, 0), (0, 5)] + [(0, 0)] * (array.ndim - 2)) for array in batch]
    loss = cross_entropy(0.1)
    assert float(loss(*wide)) == pytest.approx(float(loss(labels, logits, weights)), rel=tolerance("numpy_loss"))


def test_only_padding_is_zero(batch):
    labels, logits, weights = batch
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(0.1)(labels, logits, 0 * weights)
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros(logits.shape))


def test_half_precision_logits_are_computed_in_float32(batch):
    labels, logits, weights = batch
    half = tf.cast(logits, "bfloat16")
    loss = cross_entropy(0.1)(labels, half, weights)
    assert loss.dtype == "float32"
    expected = numpy_cross_entropy(labels, tf.cast(half, "float64").numpy(), weights, 0.1)
    assert float(loss) == pytest.approx(expected, rel=tolerance("numpy_loss"))


def test_keras_mask_counts_as_padding(batch):
    labels, logits, weights = batch
    masked = tf.constant(logits)
    masked._keras_mask = tf.constant(weights) > 0
    loss = cross_entropy(0.1)
    assert float(loss(labels, masked)) == float(loss(labels, logits, weights))


def test_a_weight_per_sequence_is_refused(batch):
    labels, logits, weights = batch
    with pytest.raises(ValueError, match=r"one weight per token.*sample_weight of shape \(4,\), y_true of shape"):
        cross_entropy()(labels, logits, weights[:, 0])


def test_label_smoothing_out_of_range():
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\); received label_smoothing=1.0"):
        cross_entropy(1.0)


def test_serialization(batch):
    config = keras.saving.serialize_keras_object(cross_entropy(0.25))
    loss = keras.saving.deserialize_keras_object(config)
    assert loss.get_config() == {"label_smoothing": 0.25, "name": "cross_entropy"}
    assert float(loss(*batch)) == float(cross_entropy(0.25)(*batch))


def token_model():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 11, embeddings_initializer="normal"),
            keras.layers.Dense(VOCABULARY),
        ]
    )


def test_plain_compile_and_fit(batch):
    labels, _, weights = batch
    model = token_model()
    expected = numpy_cross_entropy(labels, model(labels).numpy(), weights, 0.1)
    model.compile(optimizer="sgd", loss=tfzoo.losses.cross_entropy(label_smoothing=0.1), jit_compile=False)
    history = model.fit(labels, labels, sample_weight=weights, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=tolerance("numpy_loss"))
    assert history.history["loss"][1] < history.history["loss"][0]


def sgd_epoch(labels, weights):
    """One SGD step for each 4 rows; returns the reported loss and the weights after the last."""
    model = token_model()
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=cross_entropy(0.1), jit_compile=False)
    history = model.fit(labels, labels, sample_weight=weights, batch_size=4, shuffle=False, verbose=0)
    return history.history["loss"][0], model.get_weights()


# Rows per replica: (2, 2), and after it (2, 1). Tokens per replica: (3, 12). Keras refuses a first batch of odd size.
@pytest.mark.parametrize("num_rows", [4, 7])
def test_two_replicas_equal_one_device(batch, mirrored, num_rows):
    labels, _, weights = (np.concatenate([array, array])[:num_rows] for array in batch)
    loss, after = sgd_epoch(labels, weights)
    with mirrored.scope():
        mirrored_loss, mirrored_after = sgd_epoch(labels, weights)
    assert mirrored_loss == pytest.approx(loss, rel=tolerance("numpy_loss"))
    for one, two in zip(after, mirrored_after, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance("two_replicas"))
