"""Token and position embeddings."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops


@tf.custom_gradient
def _with_dense_gradient(table: tf.Tensor) -> Any:
    """The identity, whose gradient is one row per token id.

    A lookup's gradient has one row per *occurrence* of an id, and Keras' Adam, Adagrad and global-norm clipping square
    those rows before they are added up. Adding them up here makes every optimizer right. The table must still be
    float32: in bfloat16 a sum stops growing at 256 terms of equal size.
    """
    return tf.identity(table), tf.convert_to_tensor


@keras.saving.register_keras_serializable("tfzoo")
class TokenEmbedding(keras.layers.Layer):
    """Looks token ids up, and scores hidden states against the same table (Press & Wolf, 2017).

    By default vectors are multiplied by sqrt(D), and the table starts at standard deviation 1 / sqrt(D) (Vaswani et
    al., 2017, section 3.4), so that an embedded token has unit variance and a logit starts near unit variance too.

    Args:
        vocabulary_size: V, number of token ids.
        hidden_dim: D, length of a vector.
        scale: whether vectors are multiplied by sqrt(D).
        stddev: standard deviation that the table starts at; None = 1 / sqrt(D).

    Call arguments:
        token_ids: (B, T) int in [0, V).

    Returns: (B, T, D) float.
    """

    def __init__(
        self, vocabulary_size: int, hidden_dim: int, scale: bool = True, stddev: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_dim = hidden_dim
        self.scale = scale
        self.stddev = stddev

    def build(self, input_shape: Any = None) -> None:
        self.table = self.add_weight(
            name="table",
            shape=(self.vocabulary_size, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(
                stddev=self.hidden_dim**-0.5 if self.stddev is None else self.stddev
            ),
            autocast=False,
        )

    def call(self, token_ids: Any) -> Any:
        table = ops.cast(_with_dense_gradient(tf.convert_to_tensor(self.table)), self.compute_dtype)
        # Keras' `fit` under a tf.distribute strategy first calls the model with the mean over replicas, a float.
        vectors = tf.gather(table, ops.cast(token_ids, "int32"))
        return vectors * self.hidden_dim**0.5 if self.scale else vectors

    def logits(self, x: Any) -> Any:
        """(B, T, D) hidden states -> (B, T, V) float32 scores."""
        table = ops.cast(ops.convert_to_tensor(self.table), self.compute_dtype)
        return ops.cast(ops.matmul(x, ops.transpose(table)), "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "hidden_dim": self.hidden_dim,
            "scale": self.scale,
            "stddev": self.stddev,
        }


def check_length(x: Any, max_sequence_length: int) -> None:
    """Refuses tokens or vectors, (B, T) or (B, T, D), of which there are too many where T is known.

    Raises:
        ValueError: T exceeds `max_sequence_length`.
    """
    length = x.shape[1]
    if length is not None and length > max_sequence_length:
        raise ValueError(
            f"a sequence must not be longer than `max_sequence_length`; received {length} tokens, "
            f"max_sequence_length={max_sequence_length}. Shorten the input or configure more positions."
        )


def sinusoidal_table(length: int, dim: int, halves: bool = False) -> np.ndarray:
    """The fixed position vectors of Vaswani et al. (2017), section 3.5.

    Even columns hold sin(position / 10000^(column / dim)), odd columns the cosine of the same angle.

    >>> sinusoidal_table(2, 4).round(4)
    [[0.0, 1.0, 0.0, 1.0], [0.8415, 0.5403, 0.01, 1.0]]

    Args:
        length: number of positions.
        dim: columns; even.
        halves: True = all sines before all cosines, as Marian has them.

    Returns: (length, dim) float32.
    """
    columns = np.arange(0, dim, 2)
    angles = np.arange(length)[:, None] / 10000.0 ** (columns[None, :] / dim)
    if halves:
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1, dtype=np.float32)
    table = np.empty((length, dim), np.float32)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)
    return table


@keras.saving.register_keras_serializable("tfzoo")
class PositionEmbedding(keras.layers.Layer):
    """Adds a vector for each position, fixed sinusoids or learned.

    Args:
        max_sequence_length: number of positions.
        hidden_dim: D; even.
        learned: whether the vectors are weights.
        halves: of fixed ones, whether all sines stand before all cosines.

    Call arguments:
        x: (B, T, D) float.
        offset: position of the first of the T tokens (the number of cached tokens).
        positions: (B, T) int, the position of each token, where rows differ; takes the place of `offset`.

    Returns: (B, T, D) float.

    Raises:
        ValueError: T exceeds `max_sequence_length`.
    """

    def __init__(
        self,
        max_sequence_length: int,
        hidden_dim: int,
        learned: bool = False,
        halves: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_sequence_length = max_sequence_length
        self.hidden_dim = hidden_dim
        self.learned = learned
        self.halves = halves

    def build(self, input_shape: Any = None) -> None:
        shape = (self.max_sequence_length, self.hidden_dim)
        if self.learned:
            self.table = self.add_weight(
                name="table", shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02), autocast=False
            )
        else:
            self.table = sinusoidal_table(
                *shape, self.halves
            )  # NumPy: a captured eager tensor would become an ONNX input

    def call(self, x: Any, offset: Any = 0, positions: Any = None) -> Any:
        check_length(x, self.max_sequence_length)
        table = ops.cast(_with_dense_gradient(tf.convert_to_tensor(self.table)), self.compute_dtype)
        if positions is None:
            positions = ops.arange(ops.shape(x)[1]) + offset
        return x + tf.gather(table, positions)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_sequence_length": self.max_sequence_length,
            "hidden_dim": self.hidden_dim,
            "learned": self.learned,
            "halves": self.halves,
        }
