"""Prepared pairs to the batches of a sequence-to-sequence model: as `tfzoo.data.seq2seq`, streamed.

A batch holds examples of one bucket. The buckets end at the lengths that the statistics name, which were chosen from
the data. A mixture takes of each shard, bucket and origin the share that its weight asks for, to within one example of
the whole corpus: T of n examples, evenly spaced, and others in the next epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfzoo.data.batches import fill_rows, weights_by_size
from tfzoo.data.examples import Seq2SeqBatch, seq2seq_example
from tfzoo.data.prepared import Prepared
from tfzoo.data.sharding import Shard
from tfzoo.data.streaming import Order, shuffled, stream
from tfzoo.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

_BUFFER = 1 << 14  # pairs
_AT_ONCE = 256  # pairs that are drawn together


def prepared_pairs(
    prepared: Prepared,
    order: Order,
    *,
    batch_tokens: int,
    batch_size: int | None,
    temperature: float | None,
    static_shapes: bool,
    special: dict[str, int],
) -> tf.data.Dataset:
    """Returns a share's batches; see `tfzoo.data.seq2seq`.

    Most arguments are those of that function, and `special` are the ids of padding, start and end.

    Raises:
        UsageError: the batches do not go evenly to all devices, or there are fewer shards than shares.
    """
    import tensorflow as tf

    shard = order.shard
    boundaries = prepared.statistics["boundaries"]
    sizes = _rows(boundaries, batch_tokens, batch_size, shard)
    available = prepared.shards("buckets")  # (shards, buckets, origins)
    weights = _weights(prepared, temperature, available)
    drawn = available if weights is None else draw(available, weights)
    files, lengths_files = tf.constant(prepared.files()), tf.constant(prepared.lengths_files())
    with tf.device("CPU"):
        rows = tf.constant(sizes, tf.int64)
        limits = tf.constant(boundaries, tf.int32)
        tables = tf.constant(np.stack([available, drawn], axis=1).reshape(len(available), 2, -1))

    def read(shards: tf.Tensor, order_seed: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
        def records(index: tf.Tensor) -> tf.data.Dataset:
            table = tf.reshape(tf.io.decode_raw(tf.io.read_file(lengths_files[index]), tf.int32), [-1, 2])
            buckets = tf.searchsorted(limits, table[:, 0], out_type=tf.int64)
            found = tf.data.TFRecordDataset(files[index])
            if weights is None:
                return tf.data.Dataset.zip(found, tf.data.Dataset.from_tensor_slices(buckets))
            strata = buckets * len(weights) + tf.cast(table[:, 1], tf.int64)
            counts = copies(strata, tables[index, 0], tables[index, 1], epoch)
            return (
                tf.data.Dataset.zip(found, tf.data.Dataset.from_tensor_slices((buckets, counts)))
                .batch(_AT_ONCE)
                .map(lambda some, theirs: (tf.repeat(some, theirs[1]), tf.repeat(theirs[0], theirs[1])))
                .unbatch()
            )

        dataset = tf.data.Dataset.from_tensor_slices(shards).interleave(
            records,
            cycle_length=tf.size(shards, tf.int64),
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=order.deterministic,
        )
        if order.shuffle:
            dataset = shuffled(dataset, _BUFFER, order_seed)
        return dataset.group_by_window(
            key_func=lambda record, bucket: bucket,
            reduce_func=lambda bucket, window: window.batch(rows[bucket]),
            window_size_func=lambda bucket: rows[bucket],
        )

    def example(element: tuple[tf.Tensor, tf.Tensor]) -> Seq2SeqBatch:
        records, buckets = element
        features = {
            name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in ("source_ids", "target_ids")
        }
        found = tf.io.parse_example(records, features)
        lengths = {}
        if static_shapes:
            length, made_with = limits[buckets[0]], prepared.statistics["made_with"]
            lengths["source_length"] = tf.minimum(length, made_with["max_source_length"])
            lengths["target_length"] = tf.minimum(length, made_with["max_target_length"])
        source_ids, target_ids = (tf.cast(found[name], tf.int32) for name in features)
        batch = seq2seq_example(source_ids, target_ids, **lengths, **special)
        if static_shapes:
            return fill_rows(batch, tf.cast(rows[buckets[0]], tf.int32))
        if shard.num_devices > 1:
            return fill_rows(batch, -(-tf.size(records) // shard.num_devices) * shard.num_devices)
        return batch

    def num_batches(group: list[int]) -> int:
        return int((-(-drawn[group].sum(axis=(0, 2)) // np.array(sizes))).sum())

    return stream(prepared, order, num_batches=num_batches, read=read, example=example)


def draw(available: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns how many examples an epoch takes of each shard, bucket and origin, as many in all as there are.

    What is rounded off in one shard is made up for in the next. Three shards of 5 examples of the first origin and 1 of
    the second, in one bucket and with equal weights, give 3 and 3 in each.

    Args:
        available: (shards, buckets, origins) int.
        weights: (origins,) float.

    Returns: the same shape.
    """
    wanted = available.sum() * weights / weights.sum()
    rate = wanted / np.maximum(available.sum(axis=(0, 1)), 1)
    ends = np.floor(np.cumsum(available, axis=0) * rate + 0.5).astype(np.int64)
    return np.diff(ends, axis=0, prepend=0)


def copies(strata: tf.Tensor, available: tf.Tensor, drawn: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
    """Returns (N,) int64, how often an epoch takes each example of a shard.

    3 of 5 examples are in epoch 0 the second, fourth and fifth, and in epoch 1 the first, third and fourth:

        strata [0, 0, 0, 0, 0], available [5], drawn [3]  ->  [0, 1, 0, 1, 1] and [1, 0, 1, 1, 0]

    Args:
        strata: (N,) int64, which stratum each is in.
        available: (strata,) int64, examples in each.
        drawn: (strata,) int64, how many of them are taken.
        epoch: int64 scalar.
    """
    import tensorflow as tf

    before = tf.cumsum(available, exclusive=True)
    places = tf.cast(tf.argsort(tf.argsort(strata, stable=True)), tf.int64)  # when sorted by stratum
    num_available, num_drawn = tf.gather(available, strata), tf.gather(drawn, strata)
    rank = (places - tf.gather(before, strata) + epoch) % num_available
    return (rank + 1) * num_drawn // num_available - rank * num_drawn // num_available


def _weights(prepared: Prepared, temperature: float | None, available: np.ndarray) -> np.ndarray | None:
    specs, weights = prepared.statistics["specs"], prepared.statistics["weights"]
    if temperature is None:
        return None if weights is None else np.array(weights)
    if weights is not None:
        raise UsageError(
            f"{prepared.directory} was prepared with weights behind its specifications, which `temperature` excludes; "
            "leave it out, or prepare the corpus without weights."
        )
    return np.array(weights_by_size(specs, available.sum(axis=(0, 1)), temperature))


def _rows(boundaries: list[int], batch_tokens: int, batch_size: int | None, shard: Shard) -> list[int]:
    """Returns the rows of a share's batch in each bucket."""
    if batch_size is not None:
        return [shard.batch_size(batch_size)] * len(boundaries)
    sizes = [batch_tokens // length // shard.num_replicas * shard.num_devices for length in boundaries]
    if not all(sizes):
        raise UsageError(
            f"`batch_tokens` must hold one example of {boundaries[-1]} tokens for each of the {shard.num_replicas} "
            f"devices; received batch_tokens={batch_tokens}."
        )
    return sizes
