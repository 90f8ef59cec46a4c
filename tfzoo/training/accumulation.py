"""One update from the gradients of several batches, as if they were one batch.

Each batch's gradient is that of its own mean over tokens; the sum takes it times the batch's tokens, and is divided by
the tokens of all. Gradient norms are clipped and moving averages kept once an update, by the optimizer. Differs from
Keras' `gradient_accumulation_steps`, which counts every batch the same however many tokens it has, and clips each.
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
    @tf.function(autograph=False)
    def train_function(iterator: Iterator) -> dict[str, tf.Tensor]:
        def add_batch(batch: tf.Tensor, num_tokens: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            gradients, weight = _gradients(model, next(iterator))
            added = [
                total + gradient * tf.cast(weight, total.dtype) for total, gradient in zip(sums, gradients, strict=True)
            ]
            return batch + 1, num_tokens + weight, *added

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in model.trainable_variables]
        # A loop in the graph, one batch at a time: unrolled, the activations of all could be in memory at once.
        _, num_tokens, *sums = tf.while_loop(
            lambda batch, *_: batch < num_batches,
            add_batch,
            (tf.constant(0), tf.constant(0.0), *zeros),
            parallel_iterations=1,
        )
        gradients = [tf.math.divide_no_nan(total, tf.cast(num_tokens, total.dtype)) for total in sums]
        model.optimizer.apply(gradients, model.trainable_variables)
        return model.get_metrics_result()

    return train_function


def _gradients(model: keras.Model, data: Any) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The gradients of one batch's loss, and its number of tokens; the metrics take note of the batch."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
        scaled = model.optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # As in Keras' own step: the first metric is the reported loss, averaged by the number of sequences.
    model.metrics[0].update_state(loss, sample_weight=tf.shape(y)[0])
    model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    weights = token_weights(tf.ones(tf.shape(y)), y_pred, sample_weight)
    # The rows that an embedding's gradient names several times are added up here.
    return [tf.convert_to_tensor(gradient) for gradient in gradients], tf.reduce_sum(weights)
