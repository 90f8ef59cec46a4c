"""Cross entropy with label smoothing that means the same on one device and on many.

Differs from `keras.losses.SparseCategoricalCrossentropy`: the sum over tokens is divided by the weights of the whole
global batch, not by the batch size or by each replica's share, so that replicas with uneven token counts still add
up to the gradient of one device. Label smoothing is that of Szegedy et al., 2016, section 7
(https://arxiv.org/abs/1512.00567), as used by Vaswani et al., 2017, section 5.4.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def cross_entropy(label_smoothing: float = 0.0) -> CrossEntropy:
    """Returns the loss for `compile`: nats per token, averaged over the tokens that count.

    Args:
        label_smoothing: probability in [0, 1) that is spread evenly over the vocabulary.

    Raises:
        ValueError: `label_smoothing` is out of its range.
    """
    return CrossEntropy(label_smoothing=label_smoothing)


@keras.saving.register_keras_serializable(package="tfzoo")
class CrossEntropy(keras.losses.Loss):
    """sum(cross entropy * weight) / sum(weight), both sums over all replicas.

    One replica's value is its share of the gradient and, for the reported `loss`, the global mean divided by the
    number of replicas, as `tf.distribute` asks. A batch whose weights are all 0 gives 0. Over several batches Keras
    averages the reported `loss` by their number of sequences; `tfzoo.training.metrics` averages by tokens.

    Args:
        label_smoothing: probability in [0, 1) that is spread evenly over the vocabulary.
        name: as everywhere in Keras.

    Call arguments:
        y_true: (B, T) int, token ids.
        y_pred: (B, T, V) float, logits; computed with in float32. A Keras mask on them is obeyed.
        sample_weight: (B, T) float or None, which counts every token.

    Returns: () float32, nats per token.

    Raises:
        ValueError: `label_smoothing` is out of its range, or `sample_weight` has another rank than `y_true`.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy") -> None:
        super().__init__(name=name)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1); received label_smoothing={label_smoothing}.")
        self.label_smoothing = label_smoothing

    # `__call__`, not `call`: Keras would divide what `call` returns by the size of the local batch.
    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the mean over the tokens of all replicas."""
        with tf.name_scope(self.name):
            losses = self.call(y_true, y_pred)  # (B, T)
            weights = token_weights(losses, y_pred, sample_weight)
            return _global_mean(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the cross entropy of each token, (B, T) float32 nats."""
        labels = tf.cast(y_true, "int32")
        logits = tf.cast(y_pred, "float32")
        # Cheaper on a CPU than tf.nn.sparse_softmax_cross_entropy_with_logits, and no (B, T, V) one-hot in memory.
        label_logits = tf.gather(logits, labels, axis=-1, batch_dims=len(labels.shape))
        losses = tf.reduce_logsumexp(logits, axis=-1) - label_logits
        if self.label_smoothing:
            # Moving probability e from the label to the uniform distribution adds e * (logit[label] - mean(logits)).
            losses += self.label_smoothing * (label_logits - tf.reduce_mean(logits, axis=-1))
        return losses

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def token_weights(values: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """Returns how much each token counts: its sample weight or 1, and 0 where Keras masks the prediction.

    Args:
        values: (B, T) float32, what will be averaged.
        y_pred: (B, T, V), with or without a Keras mask.
        sample_weight: (B, T) or None.

    Raises:
        ValueError: `sample_weight` has another rank than `values`.
    """
    weights = tf.ones_like(values)
    mask = getattr(y_pred, "_keras_mask", None)
    if mask is not None:
        weights *= tf.cast(mask, "float32")
    if sample_weight is not None:
        if len(sample_weight.shape) != len(values.shape):
            raise ValueError(
                "`sample_weight` must have one weight per token, like `y_true`; received "
                f"sample_weight of shape {sample_weight.shape}, y_true of shape {values.shape}."
            )
        weights *= tf.cast(sample_weight, "float32")
    return weights


def _global_mean(total: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    replica = tf.distribute.get_replica_context()
    # Outside of a replica Keras only traces shapes.
    if replica is None or replica.num_replicas_in_sync == 1:
        return tf.math.divide_no_nan(total, weight)
    sums = tf.stop_gradient(tf.stack([total, weight]))
    global_total, global_weight = tf.unstack(replica.all_reduce(tf.distribute.ReduceOp.SUM, sums))
    share = tf.math.divide_no_nan(total, global_weight)
    mean = tf.math.divide_no_nan(global_total, global_weight)
    # The gradient of this replica's share; the value of the global mean, whatever this replica's batch size.
    return share + tf.stop_gradient(mean / replica.num_replicas_in_sync - share)
