"""The ONNX graphs of a recurrent sequence-to-sequence model: the encoder and the decoder, which begins with its state.

The search is that of `tfzoo.export.onnx_seq2seq`.
"""

from __future__ import annotations

import keras
import numpy as np
import onnx
import tensorflow as tf

from tfzoo.export.onnx import HUGGING_FACE_IDS, convert
from tfzoo.export.onnx_seq2seq import SOURCE_AXES, masked
from tfzoo.runtime.onnx_names import past_name, present_name

_MASK = "memory_padding_mask"  # the state entry that `encoder_attention_mask` holds at the ONNX border
_LENGTH = SOURCE_AXES[1]


def encoder(model: keras.Model) -> onnx.ModelProto:
    """Source ids and their mask -> the decoder's first state as `present.*`."""
    shapes = _state_shapes(model)

    def encode(input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        state = model.start({"encoder_token_ids": masked(model, input_ids, attention_mask)})
        return {present_name(model.task, entry): state[entry] for entry in shapes}

    return convert(
        encode,
        {"input_ids": HUGGING_FACE_IDS, "attention_mask": HUGGING_FACE_IDS},
        {
            **dict.fromkeys(("input_ids", "attention_mask"), SOURCE_AXES),
            **{present_name(model.task, entry): _axes(shape) for entry, shape in shapes.items()},
        },
    )


def decoder(model: keras.Model) -> onnx.ModelProto:
    """Decodes T more tokens.

    The first call takes what came out of the encoder. Of the `present.*` that come out here, each takes the place of
    one; the others belong to the source and stay as they are.
    """
    shapes = _state_shapes(model)
    changing = [entry for entry in shapes if not entry.startswith("memory_")]
    masks = {"encoder_attention_mask": HUGGING_FACE_IDS} if model.attends else {}

    def decode(input_ids: tf.Tensor, *rest: tf.Tensor) -> dict[str, tf.Tensor]:
        state = dict(zip(shapes, rest[len(masks) :], strict=True))
        if masks:
            state[_MASK] = tf.cast(rest[0], tf.int32)
        logits, state = model.step(tf.cast(input_ids, tf.int32), state)
        return {"logits": logits, **{present_name(model.task, entry): state[entry] for entry in changing}}

    return convert(
        decode,
        {
            "input_ids": HUGGING_FACE_IDS,
            **masks,
            **{past_name(model.task, entry): tf.TensorSpec(shape, tf.float32) for entry, shape in shapes.items()},
        },
        {
            "input_ids": ("batch", "decoder_sequence_length"),
            **dict.fromkeys(masks, SOURCE_AXES),
            **{past_name(model.task, entry): _axes(shape) for entry, shape in shapes.items()},
            "logits": ("batch", "decoder_sequence_length", model.config.vocabulary_size),
            **{present_name(model.task, entry): _axes(shapes[entry]) for entry in changing},
        },
    )


def _state_shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """State entry -> shape with an open batch and source length."""
    state = model.start({"encoder_token_ids": np.full((1, 1), model.config.start_id, np.int32)})
    return {
        entry: (None, *((None, value.shape[2]) if len(value.shape) == 3 else value.shape[1:]))
        for entry, value in state.items()
        if entry != _MASK
    }


def _axes(shape: tuple[int | None, ...]) -> tuple[str | int, ...]:
    return ("batch", *(_LENGTH if size is None else size for size in shape[1:]))
