"""Losses that mean the same on one device and on many.

They differ from Keras' own: the sum over tokens or examples is divided by the weights of the whole global batch, not by
the batch size or by each replica's share, so that replicas with uneven token counts still add up to the gradient of one
device. Label smoothing is that of Szegedy et al., 2016, section 7
(https://arxiv.org/abs/1512.00567), as used by Vaswani et al., 2017, section 5.4.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# In place of the cosine of a text with one of its own side; e to its power is 0 in float32.
_NO_PARTNER = -1e9


def cross_entropy(label_smoothing: float = 0.0) -> CrossEntropy:
    """Returns the loss for `compile`: nats per token, averaged over the tokens that count.

    Args:
        label_smoothing: probability in [0, 1) that is spread evenly over the vocabulary.

    Raises:
        ValueError: `label_smoothing` is out of its range.
    """
    return CrossEntropy(label_smoothing=label_smoothing)


class _GlobalMean(keras.losses.Loss):
    """sum(loss * weight) / sum(weight), both sums over all replicas; a subclass's `call` gives the losses.

    One replica's value is its share of the gradient and, for the reported `loss`, the global mean divided by the
    number of replicas, as `tf.distribute` asks. A batch whose weights are all 0 gives 0. Over several batches Keras
    averages the reported `loss` by their number of rows; `tfzoo.training.metrics` averages by weight.
    """

    # `__call__`, not `call`: Keras would divide what `call` returns by the size of the local batch.
    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the mean over all replicas."""
        with tf.name_scope(self.name):
            return _global_mean(*self.sums(y_true, y_pred, sample_weight))

    def sums(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns sum(loss * weight) and sum(weight) of this replica's rows alone."""
        losses = self.call(y_true, y_pred)
        weights = token_weights(losses, y_pred, sample_weight)
        return tf.reduce_sum(losses * weights), tf.reduce_sum(weights)


@keras.saving.register_keras_serializable(package="tfzoo")
class CrossEntropy(_GlobalMean):
    """The cross entropy of classes: of tokens, of texts, or of the places where an answer starts and ends.

    Args:
        label_smoothing: probability in [0, 1) that is spread evenly over the classes.
        name: as everywhere in Keras.

    Call arguments:
        y_true: (...) int, such as (B, T) token ids or (B,) classes.
        y_pred: (..., V) float, logits; computed with in float32. A Keras mask on them is obeyed.
        sample_weight: (...) float or None, which counts every label.

    Returns: () float32, nats per label.

    Raises:
        ValueError: `label_smoothing` is out of its range, or `sample_weight` has another rank than `y_true`.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy") -> None:
        super().__init__(name=name)
        self.label_smoothing = _checked_smoothing(label_smoothing)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the cross entropy of each label, (...) float32 nats."""
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


@keras.saving.register_keras_serializable(package="tfzoo")
class BinaryCrossEntropy(_GlobalMean):
    """The cross entropy of labels that hold or not, each by itself; of one example, the mean over its labels.

    Args:
        label_smoothing: probability in [0, 1) that is spread evenly over "holds" and "does not".
        name: as everywhere in Keras.

    Call arguments:
        y_true: (B, L) float, 1 = the label holds.
        y_pred: (B, L) float, logits; computed with in float32.
        sample_weight: (B,) float or None, which counts every example.

    Returns: () float32, nats per label.

    Raises:
        ValueError: `label_smoothing` is out of its range, or `sample_weight` is not of rank 1.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "binary_cross_entropy") -> None:
        super().__init__(name=name)
        self.label_smoothing = _checked_smoothing(label_smoothing)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the cross entropy of each example, (B,) float32 nats."""
        labels = tf.cast(y_true, "float32") * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        logits = tf.cast(y_pred, "float32")
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


@keras.saving.register_keras_serializable(package="tfzoo")
class SquaredError(_GlobalMean):
    """The squared error of one number for each example.

    Call arguments:
        y_true: (B,) float.
        y_pred: (B, 1) float; computed with in float32.
        sample_weight: (B,) float or None, which counts every example.

    Returns: () float32.

    Raises:
        ValueError: `sample_weight` is not of rank 1.
    """

    def __init__(self, name: str = "squared_error") -> None:
        super().__init__(name=name)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the squared error of each example, (B,) float32."""
        return tf.square(tf.cast(y_pred, "float32")[..., 0] - tf.cast(y_true, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"name": self.name}


@keras.saving.register_keras_serializable(package="tfzoo")
class InBatchContrastive(_GlobalMean):
    """The cross entropy of each text's partner among all texts of the other side of the batch, in both directions.

    Rows 0 to B - 1 are the first texts of the pairs, rows B to 2 B - 1 the second ones. The other pairs of the batch
    are what a partner has to be told from (Henderson et al., 2017, section 4.4, https://arxiv.org/abs/1705.00652): the
    larger the batch, the harder. With several replicas the batch is that of all of them.

    Args:
        scale: what cosines are multiplied by to give logits.
        name: as everywhere in Keras.

    Call arguments:
        y_true: (2 B,) int, the row of each text's partner.
        y_pred: (2 B, D) float, vectors of length 1; computed with in float32.
        sample_weight: (2 B,) float or None, which counts every text.

    Returns: () float32, nats per text.

    Raises:
        ValueError: `scale` is not positive, or `sample_weight` is not of rank 1.
    """

    def __init__(self, scale: float = 20.0, name: str = "in_batch_contrastive") -> None:
        super().__init__(name=name)
        if not scale > 0:
            raise ValueError(f"`scale` must be above 0; received scale={scale}.")
        self.scale = scale

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the cross entropy of each text, (2 B,) float32 nats."""
        return CrossEntropy().call(y_true, self.scale * partner_cosines(y_pred, y_true))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"scale": self.scale, "name": self.name}


def partner_cosines(embeddings: tf.Tensor, partners: tf.Tensor) -> tf.Tensor:
    """Returns the cosine of each text with each text of the whole batch; far below -1 for those of its own side.

    Args:
        embeddings: (N, D) float, vectors of length 1: this replica's rows of the global batch of 2 B, see
            `InBatchContrastive`. Rows behind those, which make replicas even, are nobody's.
        partners: (N,) int, the row of each text's partner.

    Returns: (N, 2 B) float32, or more columns where there are more rows.
    """
    own = tf.cast(embeddings, "float32")
    replica = tf.distribute.get_replica_context()
    # Outside of a replica Keras only traces shapes.
    if replica is None or replica.num_replicas_in_sync == 1:
        everyone, first_row, num_pairs = own, 0, tf.shape(own)[0] // 2
    else:
        # Its gradient brings each replica what all others make of its rows.
        everyone = replica.all_gather(own, axis=0)
        sizes = replica.all_gather(tf.shape(own)[:1], axis=0)
        first_row = tf.reduce_sum(sizes[: replica.replica_id_in_sync_group])
        # The last text of the first side has the last one of the second side.
        num_pairs = (tf.reduce_max(replica.all_gather(tf.cast(partners, "int32"), axis=0)) + 1) // 2
    rows = tf.range(tf.shape(everyone)[0])
    is_second = rows >= num_pairs
    own_is_second = first_row + tf.range(tf.shape(own)[0]) >= num_pairs
    cosines = tf.matmul(own, everyone, transpose_b=True)
    hidden = tf.logical_or(own_is_second[:, tf.newaxis] == is_second, rows >= 2 * num_pairs)
    return tf.where(hidden, _NO_PARTNER, cosines)


def _checked_smoothing(label_smoothing: float) -> float:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1); received label_smoothing={label_smoothing}.")
    return label_smoothing


def token_weights(values: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """Returns how much each token or example counts: its weight or 1, and 0 where Keras masks the prediction.

    Args:
        values: (B, T) or (B,) float32, what will be averaged.
        y_pred: what was predicted, with or without a Keras mask.
        sample_weight: of the shape of `values`, or None.

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
                "`sample_weight` must have one weight per token or example, as `y_true` has labels; received "
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
