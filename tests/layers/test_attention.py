"""Attention against NumPy, one head and one query at a time."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.layers.attention import MultiHeadAttention

B, T, S, D, H = 3, 7, 5, 12, 3


@pytest.fixture(scope="module")
def layer():
    layer = MultiHeadAttention(H, D)
    layer.build()
    generator = np.random.default_rng(4)
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(0, 0.7, variable.shape))
    return layer


@pytest.fixture
def tensors():
    generator = np.random.default_rng(5)
    x, memory = (generator.normal(size=(B, length, D)).astype(np.float32) for length in (T, S))
    mask = generator.random((B, H, T, S)) < 0.5
    mask[..., 2] = True
    return x, memory, mask


def numpy_attention(layer, x, memory, mask):
    weights = {variable.path.split("/", 1)[1]: variable.numpy().astype(np.float64) for variable in layer.variables}

    def project(name, y):
        return y @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    query, key, value = project("query", x), project("key", memory), project("value", memory)
    heads = np.zeros((B, T, D))
    for b, h, t in np.ndindex(B, H, T):
        own = slice(h * D // H, (h + 1) * D // H)
        seen = np.flatnonzero(mask[b, h, t])
        share = np.exp(key[b, seen, own] @ query[b, t, own] / np.sqrt(D // H))
        heads[b, t, own] = share / share.sum() @ value[b, seen, own]
    return project("output", heads)


def test_equals_numpy(layer, tensors):
    x, memory, mask = tensors
    result = layer(x, *layer.keys_and_values(memory), mask)
    np.testing.assert_allclose(result, numpy_attention(layer, x, memory, mask), rtol=0, atol=tolerance("numpy_parity"))


def test_keys_and_values_come_by_head(layer, tensors):
    key, value = layer.keys_and_values(tensors[1])
    assert key.shape == value.shape == (B, H, S, D // H)


def test_a_mask_broadcasts_over_heads_and_queries(layer, tensors):
    x, memory, mask = tensors
    narrow = mask[:, :1, :1]
    wide = np.broadcast_to(narrow, mask.shape)
    memory = layer.keys_and_values(memory)
    assert np.array_equal(layer(x, *memory, narrow), layer(x, *memory, wide))


def test_what_is_masked_has_no_influence_at_all(layer, tensors):
    x, memory, mask = tensors
    mask[:, :, :, 4] = False
    changed = memory.copy()
    changed[:, 4] = 1e4
    first, second = (layer(x, *layer.keys_and_values(each), mask) for each in (memory, changed))
    assert np.array_equal(first, second)


def test_a_row_that_sees_nothing_gives_numbers(layer, tensors):
    x, memory, mask = tensors
    assert np.isfinite(layer(x, *layer.keys_and_values(memory), np.zeros_like(mask))).all()


def test_one_key_gives_its_value(layer, tensors):
    x, memory, _ = tensors
    _, value = pair = layer.keys_and_values(memory[:, :1])
    expected = layer.output_dense(tf.reshape(value, [B, 1, D]))
    result = layer(x, *pair, np.ones((1, 1, 1, 1), bool))
    np.testing.assert_allclose(result, np.repeat(expected, T, axis=1), rtol=0, atol=tolerance("numpy_parity"))


def test_dropout_falls_on_the_weights_in_training_only(tensors):
    x, memory, mask = tensors
    layer = MultiHeadAttention(H, D, dropout=0.5)
    layer.build()
    pair = layer.keys_and_values(memory)
    assert np.array_equal(layer(x, *pair, mask), layer(x, *pair, mask))
    assert not np.array_equal(layer(x, *pair, mask, training=True), layer(x, *pair, mask, training=True))


def test_mixed_precision_keeps_weights_in_float32(tensors):
    x, memory, mask = tensors
    layer = MultiHeadAttention(H, D, dtype="mixed_bfloat16")
    layer.build()
    x, memory = tf.cast(x, tf.bfloat16), tf.cast(memory, tf.bfloat16)
    key, value = layer.keys_and_values(memory)
    assert layer(x, key, value, mask).dtype == key.dtype == value.dtype == tf.bfloat16
    assert {variable.dtype for variable in layer.trainable_variables} == {"float32"}


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="`num_heads` must divide `hidden_dim`; received num_heads=5, hidden_dim=12."):
        MultiHeadAttention(5, 12)
