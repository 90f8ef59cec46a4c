"""Gradient checkpointing: a block's activations are computed again for its gradient, and not kept (Chen et al., 2016).

https://arxiv.org/abs/1604.06174. Between two blocks the hidden states are kept, within a block nothing: what a step
stores no longer grows with the square of the length in every block, but in one, for about a third more computation.

Differs from `keras.RematScope`: the dropout masks of a block are drawn once, and are the same when it is computed
again. So weights end as they do without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.errors import RecipeError
from tfzoo.layers.transformer import DecoderBlock, EncoderBlock
from tfzoo.models.bert import BertBlock
from tfzoo.models.gpt2 import GPT2Block

_BLOCKS = (EncoderBlock, DecoderBlock, GPT2Block, BertBlock)


@contextlib.contextmanager
def recomputed(model: keras.Model) -> Iterator[None]:
    """Within, training keeps no activation from inside a block of a Transformer, GPT-2 or BERT.

    Args:
        model: built.

    Raises:
        RecipeError: the model has no such blocks: a recurrent layer's loop would be run twice for each of its steps.
    """
    # Keras has no public name for all layers of a model, those within other layers included.
    blocks = [layer for layer in model._flatten_layers() if isinstance(layer, _BLOCKS)]
    if not blocks:
        raise RecipeError(
            f"`recompute` is for the blocks of a Transformer, GPT-2 or BERT, and {model.name!r} has none; set it to "
            "false. Shorter sequences or smaller batches save memory too."
        )
    for block in blocks:
        block.call = _recomputing(block)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block in blocks:
            del block.call
        # Keras keeps the function that it has traced with them.
        model.train_function = None


def _recomputing(block: keras.layers.Layer) -> Callable[..., Any]:
    """A block's `call` that keeps its arguments alone."""
    call = block.call

    def recomputing(*inputs: Any, training: bool = False) -> Any:
        if not training:
            return call(*inputs, training=False)
        flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(inputs)]
        variables = block.variables
        # Dropout draws where its state stands, and moves the state on: once, by the first of the two computations.
        states = [variable for variable in variables if not tf.as_dtype(variable.dtype).is_floating]
        moved: list[tf.Tensor] = []
        outputs: Any = None

        def compute(*tensors: tf.Tensor) -> list[tf.Tensor]:
            nonlocal outputs
            floats = iter(tensors)
            given = [next(floats) if value.dtype.is_floating else value for value in flat]
            values = [(variable, next(floats)) for variable in variables]
            with keras.StatelessScope(state_mapping=[(v, _as(value, v.dtype)) for v, value in values]) as scope:
                outputs = call(*tf.nest.pack_sequence_as(inputs, given), training=True)
                if not moved:
                    moved.extend(scope.get_current_value(state) for state in states)
            return tf.nest.flatten(outputs)

        # Masks have no gradient, and stay. A state is handed down as float64, which holds it exactly: no other than
        # floats can be.
        floats = [value for value in flat if value.dtype.is_floating]
        floats += [_as(tf.convert_to_tensor(variable), "float64") for variable in variables]
        found = tf.recompute_grad(compute)(*floats)
        for state, value in zip(states, moved, strict=True):
            state.assign(value)
        return tf.nest.pack_sequence_as(outputs, found)

    return recomputing


def _as(value: tf.Tensor, dtype: str) -> tf.Tensor:
    """A whole number as a float, or a float that is one; other floats as they are."""
    return value if value.dtype.is_floating and tf.as_dtype(dtype).is_floating else tf.cast(value, dtype)
