"""LayerNormalization is Keras' function in another spelling."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.layers.normalization import LayerNormalization


@pytest.fixture
def pair():
    """Ours and Keras', with the same random scale and shift."""
    generator = np.random.default_rng(2)
    layers = LayerNormalization(epsilon=1e-3), keras.layers.LayerNormalization(epsilon=1e-3)
    weights = [generator.normal(1, 0.5, 11), generator.normal(0, 0.5, 11)]
    for layer in layers:
        layer.build((None, None, 11))
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-2, 0.0), (30.0, 0.0), (1.0, 50.0)])
def test_equals_keras(pair, scale, shift):
    x = (shift + scale * np.random.default_rng(3).normal(size=(3, 7, 11))).astype(np.float32)
    ours, theirs = (layer(x) for layer in pair)
    # Around 50 the input itself carries an error of 50 * 2 ** -24 per unit of deviation.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=max(1.0, abs(shift)) * tolerance("numpy_parity"))


def test_gradients_equal_keras(pair):
    x = tf.constant(np.random.default_rng(3).normal(size=(3, 7, 11)), tf.float32)
    gradients = []
    for layer in pair:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(layer(x) ** 3)
        gradients.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance("numpy_parity"))


def test_a_constant_vector_becomes_the_shift(pair):
    np.testing.assert_allclose(pair[0](np.full((1, 1, 11), 7.0))[0, 0], pair[0].beta, rtol=0, atol=1e-6)


def test_half_precision_is_normalized_in_float32():
    layer = LayerNormalization(dtype="mixed_bfloat16")
    x = tf.cast(100 + tf.random.stateless_normal((3, 7, 64), [1, 2]), tf.bfloat16)
    result = layer(x)
    assert result.dtype == tf.bfloat16
    assert layer.gamma.dtype == "float32"
    exact = np.asarray(tf.cast(x, tf.float64))
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
    # bfloat16 keeps 8 bits: the result, below 4, is rounded by at most 2 ** -7.
    np.testing.assert_allclose(tf.cast(result, tf.float64), exact, rtol=0, atol=2**-7)
