"""Prepared documents to the rows that an encoder is pretrained on: as `tfzoo.data.masked_lm`, streamed.

Rows are numbered through the corpus, share by share and group by group, in the order of the epoch. Their numbers decide
their masks, as they do in memory. Some batches' worth of rows is sorted by length at a time, within a group of shards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tfzoo.data.batches import SORTED_BATCHES, fill_rows
from tfzoo.data.few_shapes import fill_up
from tfzoo.data.prepared import Prepared
from tfzoo.data.prepared_documents import read_documents
from tfzoo.data.sharding import Shard
from tfzoo.data.streaming import Order, groups_of, shuffled, stream

if TYPE_CHECKING:
    import tensorflow as tf

_NUM_SPECIAL = 2  # [CLS] and [SEP]


def prepared_rows(
    prepared: Prepared,
    order: Order,
    *,
    row_tokens: int,
    batch_size: int,
    static_shapes: bool,
    example: Callable[[tf.RaggedTensor, tf.Tensor, tf.Tensor], Any],
) -> tf.data.Dataset:
    """Returns a share's batches of rows of one document each.

    Args:
        prepared: the corpus.
        order: which batches.
        row_tokens: most tokens of a row.
        batch_size: rows in a batch of all shares; the last batch of a group may have fewer.
        static_shapes: True = batches of few shapes, see `tfzoo.data.few_shapes`.
        example: takes (B, None) int32 token ids, (B,) int32 numbers of the rows and their epoch (int64 scalar); gives
            the batch (inputs, labels, sample_weight).

    Raises:
        UsageError: `batch_size` does not go evenly to all devices, or there are fewer shards than shares.
    """
    import tensorflow as tf

    num_devices = order.shard.num_devices
    size = order.shard.batch_size(batch_size)
    num_rows = np.array([_count_rows(prepared.lengths(index), row_tokens) for index in range(prepared.num_shards)])
    with tf.device("CPU"):  # a tf.data pipeline runs there
        first_rows = tf.constant(_first_rows(num_rows, order.shard.count), tf.int64)

    def cut(documents: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        lengths = documents.row_lengths() - 1  # without the end token
        nth = tf.ragged.range(-(-lengths // row_tokens))
        of_document, before = nth.value_rowids(), nth.flat_values * row_tokens
        row_lengths = tf.minimum(tf.gather(lengths, of_document) - before, row_tokens)
        starts = tf.gather(documents.row_starts(), of_document) + before
        ids = tf.gather(documents.flat_values, tf.ragged.range(starts, starts + row_lengths))
        return ids.to_tensor(shape=[None, row_tokens]), row_lengths

    def count(number: tf.Tensor, rows: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        return number + tf.size(rows[1], tf.int64), (number, *rows)

    def by_length(number: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, ...]:
        places = tf.argsort(lengths, stable=True)
        # As many numbers as rows in memory may have. Rows that are so far apart may have the same one.
        numbers = tf.cast((number + tf.cast(places, tf.int64)) % tf.int32.max, tf.int32)
        return tf.gather(ids, places), tf.gather(lengths, places), numbers

    def read(shards: tf.Tensor, order_seed: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
        documents = read_documents(prepared, shards, order_seed if order.shuffle else None)
        rows = documents.map(cut).rebatch(SORTED_BATCHES * size).scan(tf.gather(first_rows, shards[0]), count)
        batches = rows.map(by_length).rebatch(size)
        if order.shuffle:
            batches = shuffled(batches, SORTED_BATCHES, order_seed)
        return tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensors(epoch).repeat())

    def batch(element: tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]) -> Any:
        (ids, lengths, numbers), epoch = element
        made = example(tf.RaggedTensor.from_tensor(ids, lengths), numbers, epoch)
        if static_shapes:
            pad_id = prepared.tokenizer.target.pad_id
            return fill_up(made, num_rows=size, max_length=row_tokens + _NUM_SPECIAL, pad_id=pad_id)
        return made if num_devices == 1 else fill_rows(made, -(-tf.size(numbers) // num_devices) * num_devices)

    return stream(
        prepared,
        order,
        num_batches=lambda group: -(-int(num_rows[group].sum()) // size),
        read=read,
        example=batch,
    )


def _count_rows(lengths: np.ndarray, row_tokens: int) -> int:
    return int((-(-(lengths.astype(np.int64) - 1) // row_tokens)).sum())


def _first_rows(num_rows: np.ndarray, num_shares: int) -> np.ndarray:
    """Returns (shards,) the number of the first row of the group that each shard is in."""
    found = np.zeros_like(num_rows)
    before = 0
    for index in range(num_shares):
        for group in groups_of(len(num_rows), Shard(index=index, count=num_shares)):
            found[group] = before
            before += num_rows[group].sum()
    return found
