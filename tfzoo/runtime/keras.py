"""The reference that artifacts are compared with: the Keras model itself, with the tokenizers in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.decoding.generate import search
from tfzoo.runtime.encoder import ENCODER_TASKS
from tfzoo.runtime.predictor import Backend, Hypotheses, Reader, decode_batch
from tfzoo.runtime.tasks import TASKS
from tfzoo.text import TokenizerPair

_PLAIN = {"num_beams": 1, "temperature": 0, "repetition_penalty": 1, "min_length": 0}


class KerasEncoderBackend:
    """A Keras model in memory that answers at once.

    Args:
        model: a zoo model.
    """

    def __init__(self, model: keras.Model) -> None:
        def forward(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            outputs = model(inputs, training=False)
            return outputs["logits"] if isinstance(outputs, dict) else outputs  # a pretrained one has two heads

        self._forward = tf.function(forward, input_signature=[model.input_signature()], autograph=False)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        return self._forward(inputs).numpy()


class KerasBackend:
    """A Keras model in memory that generates.

    Args:
        model: a zoo model.
        tokenizer: its tokenizers.
    """

    def __init__(self, model: keras.Model, tokenizer: TokenizerPair) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._task = TASKS[model.task]
        inputs = {name: tf.TensorSpec((None, None), tf.int32) for name in self._task.inputs}
        rows = {name: tf.TensorSpec((None,), dtype) for name, dtype in ROW_OPTIONS.items()}

        # One trace each for plain greedy search, which need not reorder its cache, and for all else.
        @tf.function(input_signature=[inputs, rows], autograph=False)
        def greedy(inputs: dict[str, tf.Tensor], options: dict[str, Any]) -> dict[str, tf.Tensor]:
            return search(model, inputs, **options | _PLAIN)

        @tf.function(input_signature=[inputs, rows], autograph=False)
        def general(inputs: dict[str, tf.Tensor], options: dict[str, Any]) -> dict[str, tf.Tensor]:
            return search(model, inputs, **options)

        self._greedy, self._general = greedy, general
        self._forward = tf.function(model, input_signature=[model.input_signature()], autograph=False)

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `Backend`."""
        inputs = self._task.encode(
            texts, self._tokenizer, self._model.config.max_sequence_length, options["max_length"]
        )
        is_greedy = all((options[name] == value).all() for name, value in _PLAIN.items())
        found = (self._greedy if is_greedy else self._general)(inputs, options)
        return decode_batch({name: value.numpy() for name, value in found.items()}, self._tokenizer)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        return self._forward(inputs).numpy()

    def read(self, text: str, new_tokens: int) -> tuple[list[int], Reader]:
        """See `Backend`."""
        model = self._model
        inputs = self._task.encode(
            [text], self._tokenizer, model.config.max_sequence_length, np.array([new_tokens], np.int32)
        )
        prompt_ids, mask = (np.asarray(value) for value in model.prompt(inputs))
        state = model.start(inputs)
        # Without lengths, which grow: one trace for all steps.
        specs = {name: tf.TensorSpec([None] * len(value.shape), value.dtype) for name, value in state.items()}
        one = tf.TensorSpec((1, 1), tf.int32)
        step = tf.function(lambda token_ids, state: model.step(token_ids, state), input_signature=[one, specs])

        def read(token_id: int) -> np.ndarray:
            nonlocal state
            logits, state = step(tf.constant([[token_id]]), state)
            return logits.numpy()[0, -1]

        return prompt_ids[0, : mask.sum()].tolist(), read


def keras_backend(model: keras.Model, tokenizer: TokenizerPair) -> Backend:
    """Returns the backend for a model's task."""
    return KerasEncoderBackend(model) if model.task in ENCODER_TASKS else KerasBackend(model, tokenizer)
