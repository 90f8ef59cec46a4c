"""The reference that artifacts are compared with: the Keras model itself, with the tokenizers in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfzoo.decoding.config import ROW_OPTIONS
from tfzoo.decoding.generate import search
from tfzoo.runtime.predictor import Hypotheses, decode_batch, encode_batch
from tfzoo.text import TokenizerPair


class KerasBackend:
    """A Keras model in memory.

    Args:
        model: a zoo model.
        tokenizer: its tokenizers.
    """

    def __init__(self, model: keras.Model, tokenizer: TokenizerPair) -> None:
        self._model = model
        self._tokenizer = tokenizer
        ids = tf.TensorSpec((None, None), tf.int32)
        rows = {name: tf.TensorSpec((None,), dtype) for name, dtype in ROW_OPTIONS.items()}

        # One trace each for searching with one beam, which need not reorder its cache, and for all else.
        @tf.function(input_signature=[ids, rows], autograph=False)
        def greedy(encoder_token_ids: tf.Tensor, options: dict[str, Any]) -> dict[str, tf.Tensor]:
            return search(
                model, {"encoder_token_ids": encoder_token_ids}, **options | {"num_beams": 1, "temperature": 0}
            )

        @tf.function(input_signature=[ids, rows], autograph=False)
        def general(encoder_token_ids: tf.Tensor, options: dict[str, Any]) -> dict[str, tf.Tensor]:
            return search(model, {"encoder_token_ids": encoder_token_ids}, **options)

        self._greedy, self._general = greedy, general

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `Backend`."""
        token_ids = encode_batch(texts, self._tokenizer, self._model.config.max_sequence_length)
        is_greedy = (options["num_beams"] == 1).all() and (options["temperature"] == 0).all()
        found = (self._greedy if is_greedy else self._general)(token_ids, options)
        return decode_batch(found["token_ids"].numpy(), found["scores"].numpy(), self._tokenizer)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        return np.asarray(self._model(inputs))
