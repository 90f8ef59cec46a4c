"""Attention from a recurrent decoder to all states of the encoder, by one head.

Additive: score = v . tanh(W query + U memory + b) (Bahdanau et al., 2015, section 3.1 and appendix A.1.2).
Multiplicative: score = query . W memory (Luong et al., 2015, section 3.1, "general"). What the memory gives to the
score does not depend on the query, and is computed once as the memory's key.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.masks import MASKED_SCORE


@keras.saving.register_keras_serializable("tfzoo")
class AdditiveAttention(keras.layers.Layer):
    """The score is a small feed-forward network.

    Args:
        key_dim: A, width of that network.

    Call arguments:
        query: (B, T, D) float, what asks.
        key: (B, S, A) float, from `key`.
        value: (B, S, M) float, the memory.
        padding_mask: (B, S) int, 1 = may be looked at.

    Returns: the context (B, T, M) float, and the weights (B, T, S) float32 by which it is the mean of `value`.
    """

    def __init__(self, key_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key_dim = key_dim
        self.query_dense = keras.layers.Dense(key_dim, use_bias=False, dtype=self.dtype_policy, name="query")
        self.key_dense = keras.layers.Dense(key_dim, dtype=self.dtype_policy, name="key")
        self.score_dense = keras.layers.Dense(1, use_bias=False, dtype=self.dtype_policy, name="score")

    def build(self, query_shape: Any, key_shape: Any, value_shape: Any, *others: Any) -> None:
        self.query_dense.build(query_shape)
        self.key_dense.build(value_shape)
        self.score_dense.build((None, None, None, self.key_dim))

    def key(self, memory: Any) -> Any:
        """(B, S, M) memory -> (B, S, A)."""
        return self.key_dense(memory)

    def call(self, query: Any, key: Any, value: Any, padding_mask: Any) -> tuple[Any, Any]:
        query = ops.expand_dims(self.query_dense(query), 2)
        scores = ops.squeeze(self.score_dense(ops.tanh(query + ops.expand_dims(key, 1))), 3)  # (B, T, S)
        return _mean(scores, value, padding_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "key_dim": self.key_dim}


@keras.saving.register_keras_serializable("tfzoo")
class MultiplicativeAttention(keras.layers.Layer):
    """The score is a product with the query.

    Args:
        key_dim: D, width of the query.

    Call arguments:
        query: (B, T, D) float, what asks.
        key: (B, S, D) float, from `key`.
        value: (B, S, M) float, the memory.
        padding_mask: (B, S) int, 1 = may be looked at.

    Returns: the context (B, T, M) float, and the weights (B, T, S) float32 by which it is the mean of `value`.
    """

    def __init__(self, key_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key_dim = key_dim
        self.key_dense = keras.layers.Dense(key_dim, use_bias=False, dtype=self.dtype_policy, name="key")

    def build(self, query_shape: Any, key_shape: Any, value_shape: Any, *others: Any) -> None:
        self.key_dense.build(value_shape)

    def key(self, memory: Any) -> Any:
        """(B, S, M) memory -> (B, S, D)."""
        return self.key_dense(memory)

    def call(self, query: Any, key: Any, value: Any, padding_mask: Any) -> tuple[Any, Any]:
        return _mean(ops.matmul(query, ops.transpose(key, (0, 2, 1))), value, padding_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "key_dim": self.key_dim}


def _mean(scores: Any, value: Any, padding_mask: Any) -> tuple[Any, Any]:
    """(B, T, S) scores -> the mean of the values by their softmax, and the softmax."""
    mask = ops.expand_dims(ops.cast(padding_mask, "bool"), 1)
    weights = tf.nn.softmax(ops.cast(scores, "float32") + ops.where(mask, 0.0, MASKED_SCORE))
    return ops.matmul(ops.cast(weights, value.dtype), value), weights
