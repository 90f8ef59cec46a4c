"""Which tokens a masked language model predicts, and what it sees in their place (Devlin et al., 2019, section 3.1).

The choice is a function of the noise that it is given, and so as repeatable as that. As in the paper's program, a row
has a share of its tokens chosen, rounded, and at least one; of the chosen ones 80 % become [MASK], 10 % another token
at random and 10 % stay. Other than there, [UNK] is never chosen, nor does a special token stand in for another one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

NUM_NOISES = 3
"""Uniform numbers in [0, 1) that a token needs."""

_MASKED, _RANDOM = 0.8, 0.1


@dataclasses.dataclass(frozen=True)
class Masked:
    """Rows with tokens to predict.

    Args:
        token_ids: (B, T) int32, what the model sees.
        positions: (B, M) int32, where the tokens to predict stand, ascending; filled up with 0.
        labels: (B, M) int32, these tokens; filled up with 0.
        weights: (B, M) float32, 1, and 0 where they are filled up.
    """

    token_ids: tf.Tensor
    positions: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


class Masking:
    """Chooses tokens.

    Args:
        tokenizer: knows the special tokens, and the pieces that go on a word.
        probability: share of the tokens of a row that is chosen.
        whole_word: whether all pieces of a word are chosen, or none; a word with more pieces than are still to be
            chosen is passed over.
        max_predictions: M; no more tokens of a row are chosen.
    """

    def __init__(
        self, tokenizer: WordPieceTokenizer, *, probability: float, whole_word: bool, max_predictions: int
    ) -> None:
        special = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
        self._is_plain = np.ones(tokenizer.vocabulary_size, bool)
        self._is_plain[list(special)] = False
        self._plain_ids = np.flatnonzero(self._is_plain).astype(np.int32)
        self._continues = tokenizer.continues()
        self._mask_id = tokenizer.mask_id
        self._probability = probability
        self._whole_word = whole_word
        self._max_predictions = max_predictions

    def __call__(self, token_ids: tf.Tensor, noise: tf.Tensor) -> Masked:
        """Chooses tokens of rows.

        Args:
            token_ids: (B, T) int32.
            noise: (B, 3, T) float64 in [0, 1).
        """
        import tensorflow as tf

        is_candidate = tf.gather(tf.constant(self._is_plain), token_ids)
        num_candidates = tf.reduce_sum(tf.cast(is_candidate, tf.int32), axis=1)
        share = tf.cast(tf.floor(self._probability * tf.cast(num_candidates, tf.float64) + 0.5), tf.int32)
        num_chosen = tf.minimum(tf.clip_by_value(share, 1, self._max_predictions), num_candidates)
        choose = _whole_words if self._whole_word else _tokens
        is_chosen = choose(is_candidate, num_chosen, noise[:, 0], tf.gather(tf.constant(self._continues), token_ids))

        index = tf.cast(noise[:, 2] * len(self._plain_ids), tf.int32)
        seen = tf.where(
            noise[:, 1] < _MASKED,
            self._mask_id,
            tf.where(noise[:, 1] < _MASKED + _RANDOM, tf.gather(tf.constant(self._plain_ids), index), token_ids),
        )
        length = tf.shape(token_ids)[1]
        positions = tf.sort(tf.where(is_chosen, tf.range(length), length), axis=1)[:, : self._max_predictions]
        positions = tf.pad(
            positions, [[0, 0], [0, self._max_predictions - tf.shape(positions)[1]]], constant_values=length
        )
        positions = tf.ensure_shape(positions, [None, self._max_predictions])
        is_real = positions < length
        positions = tf.where(is_real, positions, 0)
        labels = tf.where(is_real, tf.gather(token_ids, positions, batch_dims=1), 0)
        return Masked(tf.where(is_chosen, seen, token_ids), positions, labels, tf.cast(is_real, tf.float32))


def _tokens(is_candidate: tf.Tensor, num_chosen: tf.Tensor, noise: tf.Tensor, continues: tf.Tensor) -> tf.Tensor:
    """Returns (B, T) bool, True for `num_chosen` (B,) candidates of each row, those of the least noise."""
    import tensorflow as tf

    order = tf.argsort(tf.where(is_candidate, noise, 1.0), axis=1, stable=True)
    return tf.argsort(order, axis=1) < num_chosen[:, tf.newaxis]


def _whole_words(is_candidate: tf.Tensor, num_chosen: tf.Tensor, noise: tf.Tensor, continues: tf.Tensor) -> tf.Tensor:
    """Returns (B, T) bool, True for at most `num_chosen` (B,) candidates of each row, which are whole words."""
    import tensorflow as tf

    # A row may begin within a word; what of it is there, is a word then.
    follows = tf.pad(is_candidate[:, :-1], [[0, 0], [1, 0]])
    is_start = is_candidate & ~(continues & follows)
    words = tf.maximum(tf.cumsum(tf.cast(is_start, tf.int32), axis=1) - 1, 0)  # (B, T), the word of each token
    num_words = tf.shape(words)[1]  # at most, and most of them without a token
    counted = tf.cast(is_candidate, tf.int32)
    sizes = tf.math.bincount(words, counted, minlength=num_words, maxlength=num_words, axis=-1)
    order = tf.argsort(tf.where(sizes > 0, noise, 1.0), axis=1, stable=True)

    def choose(before: tuple[tf.Tensor, tf.Tensor], size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        left, _ = before
        fits = size <= left
        return tf.where(fits, left - size, left), fits

    none = tf.zeros_like(num_chosen, tf.bool)
    _, chosen = tf.scan(choose, tf.transpose(tf.gather(sizes, order, batch_dims=1)), (num_chosen, none))
    is_chosen = tf.gather(tf.transpose(chosen), tf.argsort(order, axis=1), batch_dims=1)  # by word
    return is_candidate & tf.gather(is_chosen, words, batch_dims=1)
