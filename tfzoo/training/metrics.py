"""Metrics by token or example: every one of every batch counts the same, or as its weight says.

Differs from Keras' own, which average over the tokens of each sequence first: there a token of a batch padded to
length 10 counts as much as ten of a batch padded to length 100, so that batches bucketed by length give wrong means.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.models.config import ModelConfig
from tfzoo.training.losses import CrossEntropy, partner_cosines, token_weights


class _TokenMean(keras.metrics.Mean):
    """The weighted mean over tokens or examples; `count` is their number, or the sum of their weights."""

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
class Accuracy(_TokenMean):
    """Share of the labels that have the largest logit.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.CrossEntropy`.
    """

    def __init__(self, name: str = "accuracy", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of labels (...), logits (..., V) and weights (...)."""
        hits = tf.equal(tf.argmax(y_pred, axis=-1, output_type="int32"), tf.cast(y_true, "int32"))
        self._update(tf.cast(hits, "float32"), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="tfzoo")
class TokenAccuracy(Accuracy):
    """Share of tokens whose largest logit is that of the label.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.CrossEntropy`.
    """

    def __init__(self, name: str = "token_accuracy", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)


@keras.saving.register_keras_serializable(package="tfzoo")
class LabelAccuracy(_TokenMean):
    """Share of right decisions over all examples and labels, where a positive logit says that a label holds.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.BinaryCrossEntropy`.
    """

    def __init__(self, name: str = "accuracy", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of labels (B, L), logits (B, L) and weights (B,)."""
        hits = tf.cast(tf.equal(y_pred > 0, tf.cast(y_true, "float32") > 0.5), "float32")
        self._update(tf.reduce_mean(hits, axis=-1), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="tfzoo")
class PartnerAccuracy(_TokenMean):
    """Share of texts whose nearest text on the other side of the batch is their partner.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.InBatchContrastive`.
    """

    def __init__(self, name: str = "accuracy", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of partners (2 B,), vectors (2 B, D) and weights (2 B,)."""
        nearest = tf.argmax(partner_cosines(y_pred, y_true), axis=-1, output_type="int32")
        self._update(tf.cast(tf.equal(nearest, tf.cast(y_true, "int32")), "float32"), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="tfzoo")
class Pearson(keras.metrics.Metric):
    """The correlation coefficient of Pearson between predicted and true numbers; 0 while either does not vary.

    Differs from `keras.metrics.PearsonCorrelation`, which correlates within each example and averages.

    Call arguments of `update_state`: as those of `tfzoo.training.losses.SquaredError`.
    """

    def __init__(self, name: str = "pearson", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        # Sums of weight, x, y, x * x, y * y and x * y; of float64, since large sums are taken from each other.
        self.sums = self.add_variable((6,), initializer="zeros", dtype="float64", name="sums")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of numbers (B,), predictions (B, 1) and weights (B,)."""
        x, y = tf.cast(y_pred[..., 0], "float64"), tf.cast(y_true, "float64")
        weights = tf.cast(token_weights(tf.ones(tf.shape(y)), y_pred, sample_weight), "float64")
        moments = tf.stack([tf.ones_like(x), x, y, x * x, y * y, x * y])
        self.sums.assign_add(tf.reduce_sum(moments * weights, axis=-1))

    def result(self) -> tf.Tensor:
        """Returns the coefficient, () float32."""
        weight, x, y, xx, yy, xy = tf.unstack(tf.convert_to_tensor(self.sums))
        covariance = weight * xy - x * y
        variances = (weight * xx - x * x) * (weight * yy - y * y)
        return tf.cast(tf.math.divide_no_nan(covariance, tf.sqrt(tf.maximum(variances, 0.0))), "float32")


@contextlib.contextmanager
def padding_measured(model: keras.Model, share: keras.metrics.Mean) -> Iterator[None]:
    """Within, each batch that a compiled model is trained or tested on is noted in `share`.

    Args:
        model: whose batches.
        share: takes 1 for each position that is padding and 0 for each other. Padding is what the input `padding_mask`
            says, or, of a model without one, the labels of weight 0; of a source, where there is one, its token
            `pad_id`; and all of a row that counts for nothing, with which replicas are made even (see
            `tfzoo.data.sharding`).
    """
    compute_metrics = model.compute_metrics

    def measure(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        for is_padding in _paddings(getattr(model, "config", None), x, sample_weight):
            if model.distribute_strategy.num_replicas_in_sync > 1:
                is_padding = tf.logical_or(is_padding, _of_rows_without_weight(sample_weight, is_padding))
            share.update_state(tf.reshape(is_padding, [-1]))
        return compute_metrics(x, y, y_pred, sample_weight)

    # The one place that sees inputs, labels and weights of every batch, however `fit` makes its steps.
    model.compute_metrics = measure
    try:
        yield
    finally:
        del model.compute_metrics
        # Keras keeps the functions that it has traced with it.
        model.train_function = model.test_function = None


def _paddings(config: Any, x: Any, sample_weight: Any) -> list[tf.Tensor]:
    """Which positions are padding: (B, T) bool, and (B, S) of a source."""
    inputs = x if isinstance(x, dict) else {}
    real = inputs.get("padding_mask", sample_weight)
    found = [] if real is None else [tf.equal(real, 0)]
    if isinstance(config, ModelConfig) and "encoder_token_ids" in inputs:
        found.append(tf.equal(inputs["encoder_token_ids"], config.pad_id))
    return found


def _of_rows_without_weight(sample_weight: Any, positions: tf.Tensor) -> tf.Tensor:
    """True for all positions (B, ...) of the rows that have no weight at all."""
    weights = [tf.reshape(one, [tf.shape(one)[0], -1]) for one in keras.tree.flatten(sample_weight)]
    is_without = tf.logical_not(tf.reduce_any(tf.concat(weights, axis=1) > 0, axis=1))
    return tf.reshape(is_without, [-1] + [1] * (len(positions.shape) - 1))
