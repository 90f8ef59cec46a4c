"""The ONNX graph of an encoder with the head of a task."""

from __future__ import annotations

import keras
import onnx
import tensorflow as tf

from tfzoo.export.onnx import HUGGING_FACE_IDS, Axes, convert
from tfzoo.export.signatures_encoder import forward, named_outputs
from tfzoo.models.bert import mean_embedding
from tfzoo.runtime.onnx_names import ENCODER_INPUTS, HIDDEN_STATE, SENTENCE_EMBEDDING


def encoder(model: keras.Model) -> onnx.ModelProto:
    """Ids, mask and segments -> what the architecture of Hugging Face's gives that config.json names.

    Of "text_embedding" these are the hidden states, from which transformers.js makes the mean itself, and besides them
    the vector, as sentence-transformers names it.
    """
    config = model.config
    names = [*model.input_signature()]
    tokens = ("batch", "sequence_length")

    def encode(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {name: tf.cast(value, tf.int32) for name, value in zip(names, values, strict=True)}
        if model.task == "text_embedding":
            hidden = model.encode(inputs)
            return {HIDDEN_STATE: hidden, SENTENCE_EMBEDDING: mean_embedding(hidden, inputs["padding_mask"])}
        return named_outputs(model.task, forward(model, inputs))

    classes = max(1, len(config.labels))
    outputs: dict[str, Axes] = {
        "text_classification": {"logits": ("batch", classes)},
        "token_classification": {"logits": (*tokens, classes)},
        "fill_mask": {"logits": (*tokens, config.vocabulary_size)},
        "question_answering": {"start_logits": tokens, "end_logits": tokens},
        "text_embedding": {
            HIDDEN_STATE: (*tokens, config.hidden_dim),
            SENTENCE_EMBEDDING: ("batch", config.hidden_dim),
        },
    }
    theirs = [ENCODER_INPUTS[name] for name in names]
    return convert(
        encode,
        dict.fromkeys(theirs, HUGGING_FACE_IDS),
        {**dict.fromkeys(theirs, tokens), **outputs[model.task]},
    )
