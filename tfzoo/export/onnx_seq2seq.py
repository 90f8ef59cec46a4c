"""The ONNX graphs of a sequence-to-sequence model: encoder, decoder with its cache, and the whole search."""

from __future__ import annotations

import keras
import onnx
import tensorflow as tf

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.decoding.generate import search
from tfzoo.export.onnx import HUGGING_FACE_IDS, IDS, SEARCH_AXES, convert
from tfzoo.runtime.onnx_names import past_name, present_name

SOURCE_AXES = ("batch", "encoder_sequence_length")


def masked(model: keras.Model, input_ids: tf.Tensor, attention_mask: tf.Tensor) -> tf.Tensor:
    """The model reads padding from the ids; Hugging Face's callers say it by a mask."""
    return tf.where(attention_mask > 0, tf.cast(input_ids, tf.int32), model.config.pad_id)


def encoder(model: keras.Model) -> onnx.ModelProto:
    """Source ids and their mask -> `last_hidden_state` (B, S, D)."""

    def encode(input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids = masked(model, input_ids, attention_mask)
        padding_mask = tf.cast(token_ids != model.config.pad_id, tf.int32)
        return {"last_hidden_state": model.encode(token_ids, padding_mask)}

    return convert(
        encode,
        {"input_ids": HUGGING_FACE_IDS, "attention_mask": HUGGING_FACE_IDS},
        {
            "input_ids": SOURCE_AXES,
            "attention_mask": SOURCE_AXES,
            "last_hidden_state": (*SOURCE_AXES, model.config.hidden_dim),
        },
    )


def decoder(model: keras.Model) -> onnx.ModelProto:
    """Decodes with or without past in one graph.

    `use_cache_branch` [1] bool: False = the first call, when the past is ignored (its lengths may be 0) and keys and
    values of the source come from `encoder_hidden_states`; True = a later call, when they come from the past.
    """
    config = model.config
    head_dim = config.hidden_dim // config.num_heads
    state_entries = [
        f"{kind}_{layer}"
        for layer in range(config.num_layers)
        for kind in ("self_key", "self_value", "memory_key", "memory_value")
    ]
    cache = tf.TensorSpec((None, config.num_heads, None, head_dim), tf.float32)
    inputs = {
        "input_ids": HUGGING_FACE_IDS,
        "encoder_attention_mask": HUGGING_FACE_IDS,
        "encoder_hidden_states": tf.TensorSpec((None, None, config.hidden_dim), tf.float32),
        **{past_name("seq2seq", entry): cache for entry in state_entries},
        "use_cache_branch": tf.TensorSpec((1,), tf.bool),
    }

    def decode(
        input_ids: tf.Tensor,
        encoder_attention_mask: tf.Tensor,
        encoder_hidden_states: tf.Tensor,
        *rest: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        past, use_cache = dict(zip(state_entries, rest[:-1], strict=True)), rest[-1][0]
        memory_names = [entry for entry in state_entries if entry.startswith("memory_")]

        def from_encoder() -> list[tf.Tensor]:
            memory = model.memory_state(encoder_hidden_states)
            return [memory[name] for name in memory_names]

        memory = tf.cond(use_cache, lambda: [past[name] for name in memory_names], from_encoder)
        padding_mask = tf.cast(encoder_attention_mask, tf.int32)
        state = {"memory_padding_mask": padding_mask, **dict(zip(memory_names, memory, strict=True))}
        for entry in state_entries:
            if entry not in state:
                length = tf.where(use_cache, tf.shape(past[entry])[2], 0)
                state[entry] = past[entry][:, :, :length]
        logits, state = model.step(tf.cast(input_ids, tf.int32), state)
        present = {present_name("seq2seq", entry): state[entry] for entry in state_entries}
        return {"logits": logits, **present}

    def cache_axes(entry: str, length: str) -> tuple[str | int, ...]:
        name = "encoder_sequence_length" if entry.startswith("memory_") else length
        # Before the first step the past of the source may be empty while the source is not.
        name = f"{name}_out" if entry.startswith("memory_") and length.startswith("past") else name
        return ("batch", config.num_heads, name, head_dim)

    return convert(
        decode,
        inputs,
        {
            "input_ids": ("batch", "decoder_sequence_length"),
            "encoder_attention_mask": SOURCE_AXES,
            "encoder_hidden_states": (*SOURCE_AXES, config.hidden_dim),
            "use_cache_branch": (1,),
            "logits": ("batch", "decoder_sequence_length", config.vocabulary_size),
            **{
                name("seq2seq", entry): cache_axes(entry, length)
                for entry in state_entries
                for name, length in (
                    (past_name, "past_decoder_sequence_length"),
                    (present_name, "present_decoder_sequence_length"),
                )
            },
        },
    )


def generator(model: keras.Model) -> onnx.ModelProto:
    """Searches over sources that are padded on the right, with options by row."""

    def generate(input_ids: tf.Tensor, attention_mask: tf.Tensor, *options: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {"encoder_token_ids": masked(model, input_ids, attention_mask)}
        found = search(model, inputs, **dict(zip(ROW_OPTIONS, options, strict=True)))
        return {"sequences": found["token_ids"], "log_probs": found["log_probs"], "scores": found["scores"]}

    return convert(
        generate,
        {
            "input_ids": IDS,
            "attention_mask": IDS,
            **{name: tf.TensorSpec((None,), dtype) for name, dtype in ROW_OPTIONS.items()},
        },
        {
            "input_ids": SOURCE_AXES,
            "attention_mask": SOURCE_AXES,
            **SEARCH_AXES,
        },
    )
