"""Scaled dot-product attention with several heads (Vaswani et al., 2017, section 3.2)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.dropout import Dropout
from tfzoo.layers.initializers import kernel_initializer
from tfzoo.layers.masks import MASKED_SCORE


@keras.saving.register_keras_serializable("tfzoo")
class MultiHeadAttention(keras.layers.Layer):
    """Attention from queries to keys and values that are projected separately, so that they can be cached.

    Args:
        num_heads: H; must divide `hidden_dim`.
        hidden_dim: D, width of queries, memory and result.
        dropout: probability in [0, 1), on the attention weights.
        kernel_stddev: standard deviation that the kernels start at; None = Glorot's uniform distribution.
        output_stddev: the same for the kernel of the output projection; None = as the others.

    Call arguments:
        x: (B, T, D) float, what asks.
        key: (B, H, S, K) float, from `keys_and_values`.
        value: (B, H, S, K) float, from `keys_and_values`.
        mask: bool, broadcasts to (B, H, T, S), True = may look.
        return_attention_scores: whether the weights are returned too, by Keras' name for them.

    Returns: (B, T, D) float; with `return_attention_scores` also the weights (B, H, T, S), which add up to 1 over S.

    Raises:
        ValueError: H does not divide D.
    """

    def __init__(
        self,
        num_heads: int,
        hidden_dim: int,
        dropout: float = 0.0,
        kernel_stddev: float | None = None,
        output_stddev: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ValueError(
                f"`num_heads` must divide `hidden_dim`; received num_heads={num_heads}, hidden_dim={hidden_dim}."
            )
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.kernel_stddev = kernel_stddev
        self.output_stddev = output_stddev
        self.query_dense = self._dense("query", kernel_stddev)
        self.key_dense = self._dense("key", kernel_stddev)
        self.value_dense = self._dense("value", kernel_stddev)
        self.output_dense = self._dense("output", kernel_stddev if output_stddev is None else output_stddev)
        self.weights_dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def _dense(self, name: str, stddev: float | None) -> keras.layers.Dense:
        return keras.layers.Dense(
            self.hidden_dim, kernel_initializer=kernel_initializer(stddev), dtype=self.dtype_policy, name=name
        )

    def build(self, *input_shapes: Any) -> None:
        for dense in (self.query_dense, self.key_dense, self.value_dense, self.output_dense):
            dense.build((None, None, self.hidden_dim))

    def keys_and_values(self, memory: Any) -> tuple[Any, Any]:
        """(B, S, D) memory -> key and value, each (B, H, S, K)."""
        return self._split_heads(self.key_dense(memory)), self._split_heads(self.value_dense(memory))

    def call(
        self,
        x: Any,
        key: Any,
        value: Any,
        mask: Any,
        training: bool = False,
        return_attention_scores: bool = False,
    ) -> Any:
        head_dim = self.hidden_dim // self.num_heads
        query = self._split_heads(self.query_dense(x) * head_dim**-0.5)
        scores = ops.cast(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), "float32")  # (B, H, T, S)
        scores = scores + ops.where(mask, 0.0, MASKED_SCORE)
        weights = ops.cast(tf.nn.softmax(scores), self.compute_dtype)  # Keras' own warns when S = 1
        kept = self.weights_dropout(weights, training=training)
        heads = ops.transpose(ops.matmul(kept, value), (0, 2, 1, 3))  # (B, T, H, K)
        batch, length = ops.shape(heads)[:2]
        y = self.output_dense(ops.reshape(heads, (batch, length, self.hidden_dim)))
        return (y, weights) if return_attention_scores else y

    def _split_heads(self, x: Any) -> Any:
        batch, length = ops.shape(x)[:2]
        x = ops.reshape(x, (batch, length, self.num_heads, self.hidden_dim // self.num_heads))
        return ops.transpose(x, (0, 2, 1, 3))  # (B, H, S, K)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "kernel_stddev": self.kernel_stddev,
            "output_stddev": self.output_stddev,
        }
