"""One update from the gradients of several batches, as if they were one batch, on one device or on many.

Each batch's gradient is that of its own mean over tokens or examples; the sum takes it times the batch's weights, and
is divided by those of all batches of all devices. Of a model with several outputs each output's loss has a sum of its
own. A loss that compares the rows of a batch with each other still compares those of one batch alone. Gradient norms
are clipped and moving averages kept once an update, by the optimizer, and devices add up once an update. Differs from
Keras' `gradient_accumulation_steps`, which counts every batch the same however many tokens it has, clips each, and
fails under a strategy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.errors import RecipeError
from tfzoo.training.losses import InBatchContrastive
from tfzoo.training.replicas import StopRequest, on_replicas


@contextlib.contextmanager
def accumulated(model: keras.Model, num_batches: int, stop: StopRequest | None = None) -> Iterator[None]:
    """Within, `model.fit` makes each of its steps out of `num_batches` batches; 1 leaves it as it is.

    Args:
        model: built, and compiled with losses of `tfzoo.training.losses` and a built optimizer.
        num_batches: batches of one update, at least 1.
        stop: of `tfzoo.training.replicated`; None = Keras' own way on one device.

    Raises:
        RecipeError: several devices are to accumulate a loss for which they have to exchange each batch.
    """
    if num_batches == 1:
        yield
        return
    num_replicas = model.distribute_strategy.num_replicas_in_sync
    if num_replicas > 1 and isinstance(model.loss, InBatchContrastive):
        raise RecipeError(
            f"`accumulation_steps` above 1 needs one device where texts are compared with all others of their batch; "
            f"received accumulation_steps={num_batches} and {num_replicas} replicas. Set it to 1."
        )
    before = model.train_function
    function = on_replicas(model, lambda batches: _update(model, batches), num_batches=num_batches, stop=stop)
    # Keras makes a function of its own only where it finds none.
    model.train_function = function if stop is None else stop.noticed(function)
    try:
        yield
    finally:
        model.train_function = before


def _update(model: keras.Model, batches: list[Any]) -> dict[str, tf.Tensor]:
    """One replica's part of an update, from its parts of all batches."""
    variables = model.trainable_variables
    num_losses = len(model.loss) if isinstance(model.loss, dict) else 1

    def add_batch(batch: tf.Tensor, sums: list[tf.Tensor], measured: tf.TensorArray) -> tuple:
        data = tf.switch_case(batch, [lambda data=data: data for data in batches])
        gradients, losses, weights, num_rows = _gradients(model, data)
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
        # Sums over replicas are of sums: a mean takes what each replica has, times its weight.
        row = tf.concat([losses * weights, weights, [num_rows]], axis=0)
        return batch + 1, sums, measured.write(batch, row)

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    # A loop in the graph, one batch at a time: unrolled, the activations of all could be in memory at once. Nothing in
    # it waits for other replicas.
    _, sums, measured = tf.while_loop(
        lambda batch, *_: batch < len(batches),
        add_batch,
        (
            tf.constant(0),
            zeros * num_losses,
            tf.TensorArray(tf.float32, size=len(batches), element_shape=[2 * num_losses + 1]),
        ),
        parallel_iterations=1,
    )
    rows = measured.stack()
    totals = rows
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync > 1:
        totals = replica.all_reduce(tf.distribute.ReduceOp.SUM, totals)
    losses, weights = totals[:, :num_losses], totals[:, num_losses:-1]
    total_weights = tf.reduce_sum(weights, axis=0)
    means = [
        tf.math.divide_no_nan(total, tf.cast(total_weights[index // len(zeros)], total.dtype))
        for index, total in enumerate(sums)
    ]
    gradients = [tf.add_n(means[index :: len(zeros)]) for index in range(len(zeros))]
    model.optimizer.apply(gradients, variables)
    # As in Keras' own step: the first metric is the reported loss, averaged by the number of rows.
    reported = tf.reduce_sum(tf.math.divide_no_nan(losses, weights), axis=1)
    model.metrics[0].update_state(reported, sample_weight=rows[:, -1])
    return model.get_metrics_result()


def _gradients(model: keras.Model, data: Any) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of one batch: its gradients times its weights, of one loss after the other; the losses, their weights, the rows.

    The metrics take note of the batch.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    variables = model.trainable_variables
    with tf.GradientTape(persistent=isinstance(model.loss, dict)) as tape:
        y_pred = model(x, training=True)
        if isinstance(model.loss, dict):
            weighted = sample_weight or dict.fromkeys(model.loss)
            sums = [loss.sums(y[name], y_pred[name], weighted[name]) for name, loss in model.loss.items()]
        else:
            sums = [model.loss.sums(y, y_pred, sample_weight)]
        losses = [tf.math.divide_no_nan(total, weight) for total, weight in sums]
        if model.losses:
            losses[0] += tf.add_n([tf.cast(penalty, "float32") for penalty in model.losses])
        scaled = [model.optimizer.scale_loss(loss) for loss in losses]
    gradients = []
    for loss, (_, weight) in zip(scaled, sums, strict=True):
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            # What one output does not depend on; `UnconnectedGradients.ZERO` fails in a loop of the graph.
            found = tf.zeros(variable.shape, variable.dtype) if gradient is None else gradient
            # The rows that an embedding's gradient names several times are added up here.
            gradients.append(tf.convert_to_tensor(found) * tf.cast(weight, found.dtype))
    model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    num_rows = tf.cast(tf.shape(keras.tree.flatten(y)[0])[0], "float32")
    return gradients, tf.stack(losses), tf.stack([weight for _, weight in sums]), num_rows
