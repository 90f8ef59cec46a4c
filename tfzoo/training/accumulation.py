"""One update from the gradients of several batches, as if they were one batch.

Each batch's gradient is that of its own mean over tokens or examples; the sum takes it times the batch's weights, and
is divided by those of all. Of a model with several outputs each output's loss has a sum of its own. A loss that
compares the rows of a batch with each other still compares those of one batch alone. Gradient norms are clipped and
moving averages kept once an update, by the optimizer. Differs from Keras' `gradient_accumulation_steps`, which counts
every batch the same however many tokens it has, and clips each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.errors import RecipeError
from tfzoo.training.losses import token_weights


@contextlib.contextmanager
def accumulated(model: keras.Model, num_batches: int) -> Iterator[None]:
    """Within, `model.fit` makes each of its steps out of `num_batches` batches; 1 leaves it as Keras has it.

    Args:
        model: built, and compiled with a loss by tokens and a built optimizer.
        num_batches: batches of one update, at least 1.

    Raises:
        RecipeError: several replicas are to accumulate.
    """
    if num_batches == 1:
        yield
        return
    if model.distribute_strategy.num_replicas_in_sync > 1:
        raise RecipeError(
            f"`accumulation_steps` above 1 needs one device; received accumulation_steps={num_batches} and "
            f"{model.distribute_strategy.num_replicas_in_sync} replicas. Set it to 1: replicas add up already."
        )
    # Keras makes a function of its own only where it finds none.
    model.train_function = _train_function(model, num_batches)
    try:
        yield
    finally:
        model.train_function = None


def _train_function(model: keras.Model, num_batches: int) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    num_losses = len(model.loss) if isinstance(model.loss, dict) else 1

    @tf.function(autograph=False)
    def train_function(iterator: Iterator) -> dict[str, tf.Tensor]:
        def add_batch(batch: tf.Tensor, total_weights: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            gradients, weights = _gradients(model, next(iterator))
            added = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
            return batch + 1, total_weights + weights, *added

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in model.trainable_variables]
        # A loop in the graph, one batch at a time: unrolled, the activations of all could be in memory at once.
        _, total_weights, *sums = tf.while_loop(
            lambda batch, *_: batch < num_batches,
            add_batch,
            (tf.constant(0), tf.zeros([num_losses]), *zeros * num_losses),
            parallel_iterations=1,
        )
        means = [
            tf.math.divide_no_nan(total, tf.cast(total_weights[index // len(zeros)], total.dtype))
            for index, total in enumerate(sums)
        ]
        gradients = [tf.add_n(means[index :: len(zeros)]) for index in range(len(zeros))]
        model.optimizer.apply(gradients, model.trainable_variables)
        return model.get_metrics_result()

    return train_function


def _gradients(model: keras.Model, data: Any) -> tuple[list[tf.Tensor], tf.Tensor]:
    """One batch's gradients times its weights, of one loss after the other, and the losses' weights.

    The metrics take note of the batch.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    variables = model.trainable_variables
    with tf.GradientTape(persistent=isinstance(model.loss, dict)) as tape:
        y_pred = model(x, training=True)
        if isinstance(model.loss, dict):
            weighted = sample_weight or dict.fromkeys(model.loss)
            losses = [loss(y[name], y_pred[name], weighted[name]) for name, loss in model.loss.items()]
            weights = [_total_weight(y[name], y_pred[name], weighted[name]) for name in model.loss]
        else:
            losses = [model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)]
            weights = [_total_weight(y, y_pred, sample_weight)]
        scaled = [model.optimizer.scale_loss(loss) for loss in losses]
    gradients = []
    for loss, weight in zip(scaled, weights, strict=True):
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            # What one output does not depend on; `UnconnectedGradients.ZERO` fails in a loop of the graph.
            found = tf.zeros(variable.shape, variable.dtype) if gradient is None else gradient
            # The rows that an embedding's gradient names several times are added up here.
            gradients.append(tf.convert_to_tensor(found) * tf.cast(weight, found.dtype))
    # As in Keras' own step: the first metric is the reported loss, averaged by the number of rows.
    model.metrics[0].update_state(tf.add_n(losses), sample_weight=tf.shape(keras.tree.flatten(y)[0])[0])
    model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    return gradients, tf.stack(weights)


def _total_weight(y: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """How much the labels of a batch count together."""
    counted = tf.ones(tf.shape(y if sample_weight is None else sample_weight))
    return tf.reduce_sum(token_weights(counted, y_pred, sample_weight))
