"""Which part of every batch a process computes, when several processes or devices share the batches.

Batch sizes are those of all processes and devices together. Data that is held in memory is planned by every process
alike, as global batches, of which each takes its rows (`Shard.batches`); data that is streamed from files is read in
parts of its own, of `Shard.batch_size` rows. Either way step n is the n-th batch of all, however many share it.

    8 rows, 2 processes of 2 devices each:    process 0: rows 0 1 | 2 3    process 1: rows 4 5 | 6 7
    5 rows:                                   process 0: rows 0 1 | 2 3    process 1: rows 4 0 | 0 0

Where the rows do not come out even, the first row is repeated with a weight of 0. It is as valid an input as any and
adds nothing to a loss or to a metric, which are sums over what counts (see `tfzoo.training.losses`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfzoo.errors import DataError, UsageError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ByShard:
    """Training data of which a process makes no more than its own share.

    Args:
        make: takes the number of batches to skip and the share; gives the endless dataset of its devices' batches, as
            `Shard.batches` or `Shard.devices` do.
    """

    make: Callable[[int, Shard], tf.data.Dataset]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One process's share of the global batches; the default is all of them, on one device.

    Args:
        index: which share, from 0.
        count: number of shares.
        num_devices: devices of this process, among which the share is split; as many as every other process has.

    Raises:
        UsageError: a number is out of its range.
    """

    index: int = 0
    count: int = 1
    num_devices: int = 1

    def __post_init__(self) -> None:
        for name in ("count", "num_devices"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1; received {name}={getattr(self, name)}.")
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"`index` must be at least 0 and below `count`; received index={self.index}, count={self.count}."
            )

    @property
    def num_replicas(self) -> int:
        """Devices of all processes together."""
        return self.count * self.num_devices

    def batch_size(self, batch_size: int) -> int:
        """Returns how many rows of `batch_size` this share has.

        Raises:
            UsageError: they do not come out even.
        """
        if batch_size % self.num_replicas:
            raise UsageError(
                f"`batch_size` counts the rows of all {self.num_replicas} devices together and must be a multiple of "
                f"their number; received batch_size={batch_size}."
            )
        return batch_size // self.count

    def batches(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns this share of each global batch, as `devices` splits it.

        Args:
            dataset: of global batches (inputs, labels, sample_weight), each of any structure of (B, ...) tensors, the
                same for every share.

        Raises:
            DataError: there are no weights, by which repeated rows would count for nothing.
        """
        import tensorflow as tf

        if self.num_replicas == 1:
            return dataset
        if not isinstance(dataset.element_spec, tuple) or len(dataset.element_spec) != 3:
            raise DataError(
                "`dataset` must yield (inputs, labels, sample_weight), to be shared by several devices; received "
                f"{dataset.element_spec}."
            )
        return self.devices(dataset.map(self._rows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True))

    def devices(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the shares' parts for the first, the second ... device of this process, one after the other.

        Args:
            dataset: of this process's shares; their rows are a multiple of `num_devices`.
        """
        import tensorflow as tf

        if self.num_devices == 1:
            return dataset.prefetch(tf.data.AUTOTUNE)
        num_shares = int(dataset.cardinality())
        if num_shares > 0:
            num_shares *= self.num_devices
        parts = dataset.map(self._parts, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()
        if num_shares != tf.data.UNKNOWN_CARDINALITY:
            # Where a strategy cannot tell, it asks at each step whether there is more.
            parts = parts.apply(tf.data.experimental.assert_cardinality(num_shares))
        return parts.prefetch(tf.data.AUTOTUNE)

    def _rows(self, inputs: Any, labels: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        first = tf.nest.flatten(labels)[0]
        num_rows = tf.shape(first)[0] if first.shape[0] is None else first.shape[0]
        size = -(-num_rows // self.num_replicas) * self.num_devices
        indices = tf.range(self.index * size, (self.index + 1) * size)
        is_real = indices < num_rows
        indices = tf.where(is_real, indices, 0)

        def take(whole: tf.Tensor) -> tf.Tensor:
            rows = tf.gather(whole, indices)
            return rows if first.shape[0] is None else tf.ensure_shape(rows, [size, *whole.shape[1:]])

        def weigh(weights: tf.Tensor) -> tf.Tensor:
            counts = tf.reshape(tf.cast(is_real, weights.dtype), [-1] + [1] * (len(weights.shape) - 1))
            return take(weights) * counts

        inputs, labels = tf.nest.map_structure(take, (inputs, labels))
        return inputs, labels, tf.nest.map_structure(weigh, sample_weight)

    def _parts(self, *share: Any) -> Any:
        import tensorflow as tf

        def split(rows: tf.Tensor) -> tf.Tensor:
            size = None if rows.shape[0] is None else rows.shape[0] // self.num_devices
            parts = tf.reshape(rows, tf.concat([[self.num_devices, -1], tf.shape(rows)[1:]], axis=0))
            return tf.ensure_shape(parts, [self.num_devices, size, *rows.shape[1:]])

        return tf.nest.map_structure(split, share)
