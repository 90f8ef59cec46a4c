"""Metrics by token: every token of every batch counts the same.

Differs from Keras' own, which average over the tokens of each sequence first: there a token of a batch padded to
length 10 counts as much as ten of a batch padded to length 100, so that batches bucketed by length give wrong means.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.training.losses import CrossEntropy, token_weights


class _TokenMean(keras.metrics.Mean):
    """The weighted mean over tokens; `count` is the number of tokens, or the sum of their weights."""

    def _update(self, values: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None) -> None:
        weights = token_weights(values, y_pred, sample_weight)
        super().update_state(tf.reshape(values, [-1]), tf.reshape(weights, [-1]))


@keras.saving.register_keras_serializable(package="tfzoo")
class NatsPerToken(_TokenMean):
    """Cross entropy without label smoothing, in nats; its exponential is the perplexity.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.CrossEntropy`.
    """

    def __init__(self, name: str = "nats_per_token", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of labels (B, T), logits (B, T, V) and weights (B, T)."""
        # TensorFlow merges this with the same operations of the loss.
        self._update(CrossEntropy().call(y_true, y_pred), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="tfzoo")
class TokenAccuracy(_TokenMean):
    """Share of tokens whose largest logit is that of the label.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.CrossEntropy`.
    """

    def __init__(self, name: str = "token_accuracy", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of labels (B, T), logits (B, T, V) and weights (B, T)."""
        hits = tf.equal(tf.argmax(y_pred, axis=-1, output_type="int32"), tf.cast(y_true, "int32"))
        self._update(tf.cast(hits, "float32"), y_pred, sample_weight)


@contextlib.contextmanager
def padding_measured(model: keras.Model, share: keras.metrics.Mean) -> Iterator[None]:
    """Within, each batch that a compiled model is trained or tested on is noted in `share`.

    Args:
        model: whose batches.
        share: takes 1 for each position that is padding and 0 for each other. Padding is what the input `padding_mask`
            says, or, of a model without one, the labels of weight 0.
    """
    compute_metrics = model.compute_metrics

    def measure(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        real = x["padding_mask"] if isinstance(x, dict) and "padding_mask" in x else sample_weight
        if real is not None:
            share.update_state(tf.reshape(tf.equal(real, 0), [-1]))
        return compute_metrics(x, y, y_pred, sample_weight)

    # The one place that sees inputs, labels and weights of every batch, however `fit` makes its steps.
    model.compute_metrics = measure
    try:
        yield
    finally:
        del model.compute_metrics
        # Keras keeps the functions that it has traced with it.
        model.train_function = model.test_function = None
