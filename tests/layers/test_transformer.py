"""Blocks: where the normalization stands, what the cache holds, and that each layer survives saving."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.layers.activations import gelu_tanh
from tfzoo.layers.attention import MultiHeadAttention
from tfzoo.layers.embeddings import PositionEmbedding, TokenEmbedding
from tfzoo.layers.masks import causal_mask
from tfzoo.layers.normalization import LayerNormalization
from tfzoo.layers.transformer import DecoderBlock, EncoderBlock, FeedForward, Residual
from tfzoo.models.gpt2 import GPT2Block

B, T, S, D, F, H = 3, 7, 5, 12, 20, 3


def floats(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def test_feed_forward_is_two_dense_layers_with_relu():
    layer = FeedForward(D, F)
    layer.build()
    x = floats(B, T, D)
    first, bias, second, shift = (variable.numpy().astype(np.float64) for variable in layer.trainable_variables)
    assert (first.shape, second.shape) == ((D, F), (F, D))
    expected = np.maximum(x.numpy() @ first + bias, 0) @ second + shift
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=tolerance("numpy_parity"))


def test_feed_forward_takes_another_activation():
    layer = FeedForward(D, F, activation="gelu_tanh")
    layer.build()
    x = floats(B, T, D)
    expected = layer.output_dense(gelu_tanh(layer.intermediate.kernel.numpy().T @ x.numpy()[..., None])[..., 0])
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=tolerance("cached_step"))
    with pytest.raises(ValueError, match="`activation` must be one of relu, .*; received activation='tanh'"):
        FeedForward(D, F, activation="tanh")


@pytest.mark.parametrize(("stddevs", "expected"), [((0.1, 0.3), (0.1, 0.3)), ((0.1, None), (0.1, 0.1))], ids=str)
def test_kernels_start_at_the_given_deviations(stddevs, expected):
    keras.utils.set_random_seed(3)
    layers = (MultiHeadAttention(2, 64, 0.0, *stddevs), FeedForward(64, 64, 0.0, "relu", *stddevs))
    for layer in layers:
        layer.build()
        *kernels, output = (variable.numpy() for variable in layer.trainable_variables if variable.ndim == 2)
        assert [kernel.std() for kernel in kernels] == pytest.approx([expected[0]] * len(kernels), rel=0.05)
        assert output.std() == pytest.approx(expected[1], rel=0.05)
        assert not np.array_equal(kernels[0] * expected[1], output * expected[0])  # each draws its own


@pytest.mark.parametrize("normalize_first", [False, True])
def test_residual_normalizes_before_or_after(normalize_first):
    layer = Residual(D, normalize_first, dropout=0.0)
    layer.build()
    layer.normalization.set_weights([floats(D, seed=1), floats(D, seed=2)])
    x = floats(B, T, D)
    if normalize_first:
        expected = x + 2 * tf.square(layer.normalization(x))
    else:
        expected = layer.normalization(x + 2 * tf.square(x))
    np.testing.assert_array_equal(layer(x, sublayer=lambda y: 2 * tf.square(y)), expected)


def test_residual_drops_the_sublayer_and_keeps_the_stream():
    layer = Residual(D, True, dropout=0.5)
    x = floats(B, T, D)
    difference = (layer(x, sublayer=tf.ones_like, training=True) - x).numpy()
    assert 0.2 < (np.abs(difference) < 1e-6).mean() < 0.8
    np.testing.assert_allclose(difference[np.abs(difference) > 1e-6], 2.0, rtol=1e-5)


@pytest.mark.parametrize("normalize_first", [False, True])
def test_the_decoder_block_continues_from_its_past(normalize_first):
    block = DecoderBlock(D, F, H, normalize_first=normalize_first)
    block.build()
    x = floats(B, T, D)
    memory = block.memory_keys_and_values(floats(B, S, D, seed=1))
    sees_all = np.ones((1, 1, 1, S), bool)
    nothing = (tf.zeros([B, H, 0, D // H]),) * 2
    whole, key, value, looks = block(x, nothing, memory, causal_mask(T, 0), sees_all)
    assert key.shape == value.shape == (B, H, T, D // H)

    np.testing.assert_allclose(np.sum(looks, axis=3), np.ones((B, H, T)), rtol=1e-6)
    _, *past, _ = block(x[:, :4], nothing, memory, causal_mask(4, 0), sees_all)
    rest, *present, rest_looks = block(x[:, 4:], tuple(past), memory, causal_mask(3, 4), sees_all)
    np.testing.assert_allclose(rest, whole[:, 4:], rtol=0, atol=tolerance("cached_step"))
    for new, old in zip((*present, rest_looks), (key, value, looks[:, :, 4:]), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=tolerance("cached_step"))


LAYERS = {
    "attention": lambda **kwargs: MultiHeadAttention(H, D, 0.3, kernel_stddev=0.1, output_stddev=0.2, **kwargs),
    "tokens": lambda **kwargs: TokenEmbedding(37, D, **kwargs),
    "unscaled_tokens": lambda **kwargs: TokenEmbedding(37, D, scale=False, stddev=0.1, **kwargs),
    "positions": lambda **kwargs: PositionEmbedding(9, D, learned=True, **kwargs),
    "normalization": lambda **kwargs: LayerNormalization(epsilon=1e-4, **kwargs),
    "feed_forward": lambda **kwargs: FeedForward(D, F, 0.3, "gelu_tanh", 0.1, 0.2, **kwargs),
    "residual": lambda **kwargs: Residual(D, True, 0.3, epsilon=1e-4, **kwargs),
    "encoder_block": lambda **kwargs: EncoderBlock(D, F, H, dropout=0.3, normalize_first=True, **kwargs),
    "decoder_block": lambda **kwargs: DecoderBlock(D, F, H, dropout=0.3, normalize_first=True, **kwargs),
    "gpt2_block": lambda **kwargs: GPT2Block(D, F, H, 0.3, 1e-4, 0.01, **kwargs),
}


@pytest.mark.parametrize("name", LAYERS)
def test_serialization_round_trip(name):
    layer = LAYERS[name](name="mine", dtype="mixed_bfloat16")
    plain = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(plain)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    assert (copy.name, copy.dtype_policy.name) == ("mine", "mixed_bfloat16")
    for each in (layer, copy):
        each.build((None, None, D))
    described = [[(v.path, v.shape, v.dtype) for v in each.trainable_variables] for each in (layer, copy)]
    assert described[0] == described[1]


@pytest.mark.parametrize("name", LAYERS)
def test_the_config_has_every_argument(name):
    layer = LAYERS[name]()
    arguments = set(inspect.signature(type(layer)).parameters) - {"kwargs"}
    assert arguments == set(layer.get_config()) - {"name", "trainable", "dtype"}
    assert all(layer.get_config()[argument] == getattr(layer, argument) for argument in arguments)


@pytest.mark.parametrize("name", LAYERS)
def test_the_dtype_policy_reaches_every_sublayer(name):
    layer = LAYERS[name](dtype="mixed_bfloat16")
    assert {each.dtype_policy.name for each in layer._flatten_layers()} == {"mixed_bfloat16"}


def test_blocks_compute_in_half_precision():
    x = floats(B, S, D)
    mask = np.ones((1, 1, 1, S), bool)
    block = EncoderBlock(D, F, H, dtype="mixed_bfloat16")
    assert block(x, mask).dtype == tf.bfloat16
    assert {variable.dtype for variable in block.trainable_variables} == {"float32"}
    whole = EncoderBlock(D, F, H)
    whole.build()
    whole.set_weights(block.get_weights())
    expected = whole(x, mask).numpy()
    difference = np.abs(tf.cast(block(x, mask), tf.float32) - expected) / np.abs(expected).max()
    assert 0 < difference.mean() < tolerance("bfloat16")
