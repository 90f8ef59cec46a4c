"""Noise for denoising pretraining: from a damaged text the decoder writes the whole one (BART; Lewis et al., 2019).

Three of the paper's transformations (https://arxiv.org/abs/1910.13461, section 2.2). The choice is a function of the
uniform numbers that it is given, and so as repeatable as they are. Other than there, a share of the tokens is an exact
number of each text, rounded, and two spans of an infilled text never touch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import numpy as np

from tfzoo.data.config import NoiseKind
from tfzoo.errors import UsageError
from tfzoo.text.tokenizers import Tokenizer
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

NUM_UNIFORM = 2
"""Uniform numbers in [0, 1) that a token, and the end of a text, need."""

MEAN_SPAN = 3.0  # tokens; the paper's lambda
_LONGEST_SPAN = 30  # beyond it lies 1e-19 of the distribution


def _poisson_steps() -> np.ndarray:
    """Returns how likely a span is no longer than 0, 1, 2 ... tokens."""
    shares = [math.exp(-MEAN_SPAN) * MEAN_SPAN**n / math.factorial(n) for n in range(_LONGEST_SPAN)]
    return np.cumsum(shares)


class Noise:
    """Damages texts.

    With `probability` 0.4 and mask 1, of the tokens [4, 5, 6, 7, 8] two are hit:

        "masking"    [4, 1, 6, 7, 1]   each becomes the mask
        "deletion"   [4, 6, 7]         each is left out; the decoder has to find where
        "infilling"  [4, 1, 7, 8]      a span of them becomes one mask; the decoder has to find how many it stands for

    Lengths of spans are Poisson's with a mean of 3, so that one in twenty has no token: a mask that stands for nothing.

    Args:
        kind: one of these.
        probability: share in (0, 1) of a text's tokens that are hit, rounded.
        mask_id: what stands in their place.

    Call arguments:
        ids: (B, None) int32, texts without special tokens.
        uniform: (B, 2, N + 1) float64 in [0, 1), N at least the longest text.

    Returns: (B, None) int32, no text longer than it was.

    Raises:
        UsageError: an unknown kind.
    """

    def __init__(self, kind: NoiseKind, *, probability: float, mask_id: int) -> None:
        if kind not in get_args(NoiseKind):
            raise UsageError(f"`kind` must be one of {', '.join(get_args(NoiseKind))}; received kind={kind!r}.")
        self._kind = kind
        self._probability = probability
        self._mask_id = mask_id
        self._steps = _poisson_steps()

    def __call__(self, ids: tf.RaggedTensor, uniform: tf.Tensor) -> tf.RaggedTensor:
        """Damages texts; see the class."""
        import tensorflow as tf

        lengths = tf.cast(ids.row_lengths(), tf.int32)
        num_hit = tf.cast(tf.floor(self._probability * tf.cast(lengths, tf.float64) + 0.5), tf.int32)
        if self._kind == "infilling":
            return self._infilled(ids, lengths, num_hit, uniform)
        dense = ids.to_tensor()  # (B, T)
        is_real = tf.sequence_mask(lengths)
        is_hit = _least(uniform[:, 0, : tf.shape(dense)[1]], is_real, num_hit)
        if self._kind == "masking":
            return tf.ragged.boolean_mask(tf.where(is_hit, self._mask_id, dense), is_real)
        return tf.ragged.boolean_mask(dense, is_real & ~is_hit)

    def _infilled(
        self, ids: tf.RaggedTensor, lengths: tf.Tensor, num_hit: tf.Tensor, uniform: tf.Tensor
    ) -> tf.RaggedTensor:
        """Puts spans into distinct gaps between the tokens that stay: every arrangement is as likely as any other."""
        import tensorflow as tf

        dense = tf.pad(ids.to_tensor(), [[0, 0], [0, 1]])  # (B, G): a gap stands before each token, and one at the end
        width = tf.shape(dense)[1]
        num_kept = lengths - num_hit
        # The spans that are drawn until they hide enough; the last one is cut.
        spans = tf.searchsorted(tf.constant(self._steps), tf.reshape(uniform[:, 0, :width], [-1]), side="right")
        spans = tf.reshape(tf.cast(spans, tf.int32), tf.shape(dense))
        before = tf.cumsum(spans, axis=1, exclusive=True)  # (B, G), tokens of the spans drawn earlier
        num_spans = tf.reduce_sum(tf.cast(before < num_hit[:, tf.newaxis], tf.int32), axis=1)
        num_spans = tf.minimum(tf.minimum(num_spans, num_hit), num_kept + 1)[:, tf.newaxis]
        left = tf.maximum(num_hit[:, tf.newaxis] - before, 0)
        rank = tf.range(width)
        spans = tf.where(rank < num_spans - 1, tf.minimum(spans, left), tf.where(rank == num_spans - 1, left, 0))

        is_gap = rank <= num_kept[:, tf.newaxis]
        is_masked = _least(uniform[:, 1, :width], is_gap, num_spans[:, 0])
        of_gap = tf.cumsum(tf.cast(is_masked, tf.int32), axis=1)  # spans up to and with each gap
        hidden = tf.cumsum(spans, axis=1)
        hidden = tf.where(of_gap > 0, tf.gather(hidden, tf.maximum(of_gap - 1, 0), batch_dims=1), 0)
        places = tf.minimum(rank + hidden, width - 1)  # of the token behind each gap, in the whole text
        tokens = tf.gather(dense, places, batch_dims=1)
        is_kept = rank < num_kept[:, tf.newaxis]
        pairs = tf.stack([tf.fill(tf.shape(tokens), self._mask_id), tokens], axis=2)  # (B, G, 2)
        is_there = tf.stack([is_masked, is_kept], axis=2)
        flat = [tf.shape(dense)[0], 2 * width]
        return tf.ragged.boolean_mask(tf.reshape(pairs, flat), tf.reshape(is_there, flat))


class Damage:
    """Noise on the sources of a corpus: a function of the seed, the epoch and the example, and not of the batch.

    Args:
        kind: see `Noise`.
        tokenizer: of the sources; the mask is its own, or else the unknown token.
        probability: see `Noise`.
        max_length: longest source in tokens, the end token included.
        seed: of the noise.

    Call arguments:
        source_ids: (B, None) int32, the end token included, which stays.
        indices: (B,) int32, of the examples.
        epoch: int64 scalar.

    Returns: (B, None) int32.
    """

    def __init__(
        self, kind: NoiseKind, tokenizer: Tokenizer, *, probability: float, max_length: int, seed: int
    ) -> None:
        mask_id = tokenizer.mask_id if isinstance(tokenizer, WordPieceTokenizer) else tokenizer.unk_id
        self._noise = Noise(kind, probability=probability, mask_id=mask_id)
        self._max_length = max_length
        self._seed = seed

    def __call__(self, source_ids: tf.RaggedTensor, indices: tf.Tensor, epoch: tf.Tensor) -> tf.RaggedTensor:
        """Damages sources; see the class."""
        import tensorflow as tf

        def uniform(index: tf.Tensor) -> tf.Tensor:
            of_example = tf.random.fold_in(tf.stack([tf.constant(self._seed, tf.int64), epoch]), index)
            # One for the end of the text, where a gap is too, in the place of the end token.
            return tf.random.stateless_uniform([NUM_UNIFORM, self._max_length], of_example, dtype=tf.float64)

        numbers = tf.map_fn(uniform, indices, fn_output_signature=tf.float64)
        return tf.concat([self._noise(source_ids[:, :-1], numbers), source_ids[:, -1:]], axis=1)


def _least(uniform: tf.Tensor, is_candidate: tf.Tensor, num_chosen: tf.Tensor) -> tf.Tensor:
    """Returns (B, T) bool, True for `num_chosen` (B,) candidates of each row, those of the least numbers."""
    import tensorflow as tf

    order = tf.argsort(tf.where(is_candidate, uniform, 1.0), axis=1, stable=True)
    return is_candidate & (tf.argsort(order, axis=1) < num_chosen[:, tf.newaxis])
