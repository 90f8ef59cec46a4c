"""A model without weights: logits out of a random table, picked by a hash of the source and of every token before.

It answers `start` and `step` with a state that grows, so that a search which mixes up its hypotheses' states, or
forgets to reorder them, gets other logits; and the table says in plain Python what the right ones are.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import tensorflow as tf

NUM_ROWS = 1009  # a prime


class TableModel:
    """Next-token logits by a hash of the whole prefix.

    Args:
        vocabulary_size: V, at least 4: padding, start, end and words.
        end_bias: added to the logit of the end token, so that it competes.
        seed: of the table.
        spread: standard deviation of the logits.
    """

    def __init__(self, vocabulary_size: int, end_bias: float = 0.0, seed: int = 0, spread: float = 1.5) -> None:
        self.config = types.SimpleNamespace(
            vocabulary_size=vocabulary_size, pad_id=0, start_id=1, end_id=2, max_sequence_length=12
        )
        table = spread * np.random.default_rng(seed).normal(size=(NUM_ROWS, vocabulary_size))
        table[:, self.config.end_id] += end_bias
        self.table = table.astype(np.float32)
        self.factors = np.array([pow(31, i, NUM_ROWS) for i in range(1, 20)], np.int32)

    def prompt(self, inputs: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        shape = [tf.shape(inputs["encoder_token_ids"])[0], 1]
        return tf.fill(shape, self.config.start_id), tf.ones(shape, tf.int32)

    def start(self, inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
        source = tf.convert_to_tensor(inputs["encoder_token_ids"])  # (B, S)
        return {
            "memory_source": tf.reduce_sum(source * tf.range(1, tf.shape(source)[1] + 1), axis=1),
            "self_token_ids": tf.zeros([tf.shape(source)[0], 0], tf.int32),
        }

    def step(self, token_ids: Any, state: dict[str, Any]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        seen = tf.concat([state["self_token_ids"], token_ids], axis=1)
        codes = tf.reduce_sum((seen + 1) * tf.constant(self.factors)[: tf.shape(seen)[1]], axis=1)
        rows = (codes + 577 * state["memory_source"]) % NUM_ROWS
        return tf.gather(self.table, rows)[:, tf.newaxis], state | {"self_token_ids": seen}

    def next_log_probs(self, source: Any, min_length: int = 0, repetition_penalty: float = 1.0) -> Any:
        """The same in plain Python: prefix, without the start token -> log-probabilities in float64."""
        code = 577 * sum(int(token) * (i + 1) for i, token in enumerate(source))

        def log_probs(prefix: tuple[int, ...]) -> np.ndarray:
            seen = (self.config.start_id, *prefix)
            row = code + sum((token + 1) * pow(31, i + 1, NUM_ROWS) for i, token in enumerate(seen))
            logits = self.table[row % NUM_ROWS].astype(np.float64)
            for token in set(seen):
                logits[token] *= repetition_penalty if logits[token] < 0 else 1 / repetition_penalty
            if len(prefix) < min_length:
                logits[self.config.end_id] = -np.inf
            return logits - np.log(np.exp(logits).sum())

        return log_probs


def sources(num_rows: int, length: int = 5, seed: int = 0) -> np.ndarray:
    """(B, S) int32, each row another."""
    return np.random.default_rng(seed).integers(1, 400, (num_rows, length)).astype(np.int32)
