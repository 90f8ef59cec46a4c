"""A loop over the time axis, in the graph, for what no matrix product over all tokens at once can compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras import ops

Advance = Callable[[list[Any], Any], tuple[list[Any], Any]]


def scan(
    advance: Advance, inputs: Sequence[Any], state: Any, outputs: Sequence[tf.TensorSpec]
) -> tuple[list[Any], Any]:
    """Takes one step of time after the other.

    Args:
        advance: (what each of `inputs` holds at this step, the state before it) -> (the step's outputs, the state).
        inputs: tensors (T, ...), T at least 1, the same for all.
        state: any structure of tensors, whose shapes and types no step changes.
        outputs: shape and type of each output of one step.

    Returns: each output at all steps, (T, ...), and the state after the last step.
    """
    num_steps = ops.shape(inputs[0])[0]
    if isinstance(num_steps, int) and num_steps == 1:  # a loop in the search's loop would cost more than the step
        found, state = advance([value[0] for value in inputs], state)
        return [tf.expand_dims(value, 0) for value in found], state
    read = [
        tf.TensorArray(value.dtype, num_steps, element_shape=value.shape[1:]).unstack(value)
        for value in map(tf.convert_to_tensor, inputs)
    ]
    written = [tf.TensorArray(spec.dtype, num_steps, element_shape=spec.shape) for spec in outputs]

    def body(t: Any, state: Any, written: list[Any]) -> tuple[Any, Any, list[Any]]:
        found, state = advance([array.read(t) for array in read], state)
        return t + 1, state, [array.write(t, value) for array, value in zip(written, found, strict=True)]

    _, state, written = tf.while_loop(
        lambda t, *_: t < num_steps,
        body,
        (tf.constant(0), state, written),
        maximum_iterations=num_steps,  # known beforehand, XLA can compile the gradient
    )
    return [array.stack() for array in written], state
