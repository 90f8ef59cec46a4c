"""Which examples make up each batch of an epoch: a function of (seed, epoch), computed in graph.

Examples of similar length share a bucket, and a batch comes from one bucket, so that little is padding. A bucket ends
at one of the lengths 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ... (four an octave) and at the greatest length allowed.
Or else all examples are in one bucket, and are sorted by their length some batches' worth at a time, so that every
batch but the last is full. Every epoch has the same number of batches, so that step n lies in epoch n // num_batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from tfzoo.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

SORTED_BATCHES = 50
"""Batches whose examples are sorted by length together."""


def bucket_boundaries(max_length: int) -> list[int]:
    """Returns the longest length of each bucket, ascending.

    >>> bucket_boundaries(30)
    [8, 10, 12, 14, 16, 20, 24, 28, 30]
    """
    boundaries = []
    length = 8
    while length < max_length:
        boundaries.append(length)
        length += 1 << (length.bit_length() - 3)
    return [*boundaries, max_length]


class BatchPlan:
    """The batches of every epoch, as indices of examples.

    An epoch holds every example once, or, with weights, about as many examples as there are: each origin gets its
    share of every bucket, rounded up, drawn without repetition until all were drawn.

    Args:
        lengths: (N,) int, tokens of each example, the end token included.
        origins: (N,) int, index into `weights`.
        max_length: the greatest length.
        batch_tokens: most tokens in a batch, padding included.
        batch_size: examples in a batch; wins over `batch_tokens` unless None.
        weights: share of each origin, not necessarily adding up to 1; None = each example once.
        shuffle: False = buckets in ascending order, their examples as they come.
        seed: of the order.
        drop_remainder: leave out the last batch of a bucket unless it is full.
        num_sorted: examples, drawn one after the other, that are sorted by length; None = buckets.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        origins: np.ndarray,
        *,
        max_length: int,
        batch_tokens: int,
        batch_size: int | None,
        weights: Sequence[float] | None,
        shuffle: bool,
        seed: int,
        drop_remainder: bool,
        num_sorted: int | None = None,
    ) -> None:
        import tensorflow as tf

        self._shuffle = shuffle
        self._seed = seed
        self._num_sorted = num_sorted
        boundaries = bucket_boundaries(max_length) if num_sorted is None else [max_length]
        buckets = np.searchsorted(boundaries, lengths)
        num_examples = np.bincount(buckets, minlength=len(boundaries))
        strata = draws = None
        if weights is not None:
            strata = buckets * len(weights) + origins
            draws, num_examples = _mixture(buckets, origins, np.asarray(weights, float), len(boundaries))

        starts: list[int] = []
        limits: list[int] = []
        offset = 0
        for boundary, count in zip(boundaries, num_examples.tolist(), strict=True):
            size = batch_tokens // boundary if batch_size is None else batch_size
            end = offset + (count - count % size if drop_remainder else count)
            starts += range(offset, end, size)
            limits += [min(start + size, end) for start in range(offset, end, size)]
            offset += count
        self.num_batches = len(starts)
        with tf.device("CPU"):  # a tf.data pipeline runs there
            self._boundaries = tf.constant(boundaries, tf.int32)
            self._buckets = tf.constant(buckets, tf.int32)
            self._strata = None if strata is None else tf.constant(strata, tf.int32)
            self._draws = None if draws is None else tf.constant(draws, tf.int32)
            self._lengths = None if num_sorted is None else tf.constant(lengths, tf.int64)
            self._starts = tf.constant(starts, tf.int32)
            self._limits = tf.constant(limits, tf.int32)

    def batches(self, epoch: tf.Tensor) -> tf.RaggedTensor:
        """Returns (num_batches, None) int32, the examples of each batch of an epoch (int64 scalar)."""
        import tensorflow as tf

        drawing, within, between = tf.unstack(tf.random.split(tf.stack([tf.constant(self._seed, tf.int64), epoch]), 3))
        examples = tf.range(tf.size(self._buckets))
        if self._strata is not None:
            examples = tf.gather(self._grouped(examples, self._strata, drawing), self._draws)
        examples = self._grouped(examples, self._buckets, within)
        if self._lengths is not None:
            lengths = tf.gather(self._lengths, examples)
            window = tf.range(tf.size(examples, tf.int64)) // self._num_sorted
            examples = tf.gather(examples, tf.argsort(window * (tf.reduce_max(lengths) + 1) + lengths, stable=True))
        order = self._shuffled(tf.range(self.num_batches), between)
        rows = tf.ragged.range(tf.gather(self._starts, order), tf.gather(self._limits, order))
        return tf.gather(examples, rows)

    def padded_length(self, examples: tf.Tensor) -> tf.Tensor:
        """Returns the int32 scalar length of the bucket that a batch's (B,) examples come from."""
        import tensorflow as tf

        return tf.gather(self._boundaries, self._buckets[examples[0]])

    def _grouped(self, examples: tf.Tensor, groups: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Orders examples by their group, ascending, and at random within it."""
        import tensorflow as tf

        examples = self._shuffled(examples, seed)
        return tf.gather(examples, tf.argsort(tf.gather(groups, examples), stable=True))

    def _shuffled(self, values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.random.experimental.stateless_shuffle(values, seed) if self._shuffle else values


def over_epochs(
    batches_of: Callable[[tf.Tensor], tf.data.Dataset],
    example: Callable[..., Any],
    *,
    num_batches: int,
    repeat: bool,
    start_step: int,
    deterministic: bool = True,
) -> tf.data.Dataset:
    """Returns the examples of one epoch's batches, or of all epochs', from batch `start_step` on.

    Args:
        batches_of: takes an epoch (int64 scalar), gives the dataset of what its batches are made of.
        example: takes an element of that dataset, gives the batch; it is not called for what is skipped.
        num_batches: elements in each of these datasets.
        repeat: True = endless.
        start_step: batches to skip.
        deterministic: False = each batch as soon as it is ready.

    Returns: a dataset of known cardinality.

    Raises:
        UsageError: `start_step` is negative.
    """
    import tensorflow as tf

    if start_step < 0:
        raise UsageError(f"`start_step` must be at least 0; received start_step={start_step}.")
    first_epoch, skipped = divmod(start_step, num_batches)
    num_left = tf.data.INFINITE_CARDINALITY if repeat else max(0, num_batches - start_step)
    return (
        tf.data.Dataset.range(first_epoch, tf.int64.max if repeat else 1)
        .flat_map(batches_of)
        .skip(skipped)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .apply(tf.data.experimental.assert_cardinality(num_left))
        .prefetch(tf.data.AUTOTUNE)
    )


def fill_rows(batch: Any, num_rows: int | tf.Tensor) -> Any:
    """Repeats the first row of a batch, with a weight of 0, until there are `num_rows`.

        labels [[4, 5], [6, 7]], sample_weight [[1, 1], [1, 0]], num_rows=3  ->

        labels [[4, 5], [6, 7], [4, 5]], sample_weight [[1, 1], [1, 0], [0, 0]]

    Args:
        batch: (inputs, labels, sample_weight), each of any structure of (B, ...) tensors.
        num_rows: at least B; an int makes the shape static.
    """
    import tensorflow as tf

    inputs, labels, sample_weight = batch
    positions = tf.range(num_rows)
    is_real = positions < tf.shape(tf.nest.flatten(labels)[0])[0]

    def take(rows: tf.Tensor) -> tf.Tensor:
        return tf.gather(rows, tf.where(is_real, positions, 0))

    def weigh(rows: tf.Tensor) -> tf.Tensor:
        return take(rows) * tf.reshape(tf.cast(is_real, rows.dtype), [-1] + [1] * (len(rows.shape) - 1))

    inputs, labels = tf.nest.map_structure(take, (inputs, labels))
    return inputs, labels, tf.nest.map_structure(weigh, sample_weight)


def sorted_batches(
    example: Callable[[tf.Tensor, tf.Tensor], Any],
    lengths: np.ndarray,
    origins: np.ndarray,
    *,
    batch_size: int,
    weights: Sequence[float] | None,
    shuffle: bool,
    seed: int,
    repeat: bool,
    start_step: int,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Returns full batches of examples of similar length, as `over_epochs` does.

    Args:
        example: takes the (B,) int32 indices of a batch and its epoch (int64 scalar), gives the batch.
        lengths: (N,) int, tokens of each example.
        origins: (N,) int, index into `weights`.
        batch_size: B; the last batch of an epoch may have fewer.
        weights: see `BatchPlan`.
        shuffle: False = the order of the examples as they are, but for the sorting.
        seed: of the order.
        repeat: True = endless.
        start_step: batches to skip.
        drop_remainder: leave out the last batch of an epoch unless it is full.
    """
    import tensorflow as tf

    plan = BatchPlan(
        lengths,
        origins,
        max_length=int(lengths.max()),
        batch_tokens=0,
        batch_size=batch_size,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=drop_remainder,
        num_sorted=SORTED_BATCHES * batch_size,
    )

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = tf.data.Dataset.from_tensor_slices(plan.batches(epoch))
        return tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensors(epoch).repeat())

    return over_epochs(batches_of, example, num_batches=plan.num_batches, repeat=repeat, start_step=start_step)


def weights_by_size(specs: Sequence[str], sizes: np.ndarray, temperature: float) -> list[float]:
    """Returns the weight of each specification, n ** (1 / temperature), and logs its share of the examples."""
    weights = sizes ** (1 / temperature)
    for spec, size, share in zip(specs, sizes, weights / weights.sum(), strict=True):
        logging.info("%s: %.1f %% of the examples, drawn as %.1f %%.", spec, 100 * size / sizes.sum(), 100 * share)
    return weights.tolist()


def _mixture(
    buckets: np.ndarray, origins: np.ndarray, weights: np.ndarray, num_buckets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which places to draw, of the examples grouped by bucket and origin, and the number drawn per bucket."""
    available = np.zeros((num_buckets, len(weights)), int)
    np.add.at(available, (buckets, origins), 1)
    wanted = len(buckets) * weights / weights.sum()
    # The small number keeps what should be 30, but came out a hair above it, from being rounded up to 31.
    drawn = np.ceil(available * wanted / available.sum(axis=0) - 1e-9).astype(int)
    offsets = (np.cumsum(available) - available.ravel()).reshape(available.shape)
    places = [
        offset + np.arange(count) % size
        for offset, count, size in zip(offsets.ravel(), drawn.ravel(), available.ravel(), strict=True)
        if count
    ]
    return np.concatenate(places), drawn.sum(axis=1)
