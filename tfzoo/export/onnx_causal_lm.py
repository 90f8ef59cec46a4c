"""The ONNX graphs of a language model: the decoder with its past, and the whole search."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import tensorflow as tf

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.decoding.generate import search
from tfzoo.export.onnx import HUGGING_FACE_IDS, IDS, SEARCH_AXES, Axes, convert
from tfzoo.runtime.onnx_names import past_name, present_name

CACHE_MASK = "cache_mask"  # the state entry that `attention_mask` holds at the ONNX border


def decoder(model: keras.Model) -> onnx.ModelProto:
    """Reads T more tokens.

    `attention_mask` (B, P + T) covers the P tokens of the past as well; the past of the first call has length 0, or is
    all zeros in a recurrent model.
    """
    shapes = _state_shapes(model)
    past_specs = {name: tf.TensorSpec(shape, tf.float32) for name, shape in shapes.items()}

    def decode(input_ids: tf.Tensor, attention_mask: tf.Tensor, *past: tf.Tensor) -> dict[str, tf.Tensor]:
        mask = tf.cast(attention_mask, tf.int32)
        num_past = tf.shape(mask)[1] - tf.shape(input_ids)[1]
        state = dict(zip(shapes, past, strict=True))
        if any(len(shape) == 4 for shape in shapes.values()):  # keys and values of each past token
            state[CACHE_MASK] = mask[:, :num_past]
        logits, state = model.step(tf.cast(input_ids, tf.int32), state, padding_mask=mask[:, num_past:])
        return {"logits": logits, **{present_name(model.task, name): state[name] for name in shapes}}

    def axes(shape: tuple[int | None, ...], length: str) -> tuple[str | int, ...]:
        return ("batch", *(length if size is None else size for size in shape[1:]))

    state_axes: Axes = {}
    for name, shape in shapes.items():
        state_axes[past_name(model.task, name)] = axes(shape, "past_sequence_length")
        state_axes[present_name(model.task, name)] = axes(shape, "total_sequence_length")
    return convert(
        decode,
        {
            "input_ids": HUGGING_FACE_IDS,
            "attention_mask": HUGGING_FACE_IDS,
            **{past_name(model.task, name): spec for name, spec in past_specs.items()},
        },
        {
            "input_ids": ("batch", "sequence_length"),
            "attention_mask": ("batch", "total_sequence_length"),
            "logits": ("batch", "sequence_length", model.config.vocabulary_size),
            **state_axes,
        },
    )


def _state_shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """State entry -> shape with an open batch and, for keys and values, an open length."""
    one = np.full((1, 1), model.config.start_id, np.int32)
    state = model.start({"token_ids": one, "padding_mask": np.ones_like(one)})
    return {
        name: (None, value.shape[1], None, value.shape[3]) if len(value.shape) == 4 else (None, value.shape[1])
        for name, value in state.items()
        if name != CACHE_MASK
    }


def generator(model: keras.Model) -> onnx.ModelProto:
    """Searches from prompts that are padded on the right, with options by row."""

    def generate(input_ids: tf.Tensor, attention_mask: tf.Tensor, *options: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {"token_ids": input_ids, "padding_mask": attention_mask}
        found = search(model, inputs, **dict(zip(ROW_OPTIONS, options, strict=True)))
        return {"sequences": found["token_ids"], "log_probs": found["log_probs"], "scores": found["scores"]}

    prompt_axes = ("batch", "prompt_length")
    return convert(
        generate,
        {
            "input_ids": IDS,
            "attention_mask": IDS,
            **{name: tf.TensorSpec((None,), dtype) for name, dtype in ROW_OPTIONS.items()},
        },
        {"input_ids": prompt_axes, "attention_mask": prompt_axes, **SEARCH_AXES},
    )
