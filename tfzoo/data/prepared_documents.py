"""Prepared documents to the batches of a language model: as `tfzoo.data.causal_lm`, streamed.

The stream of a group is cut into windows as the stream of an epoch is there; at its first window stands an end token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfzoo.data.batches import fill_rows
from tfzoo.data.prepared import Prepared
from tfzoo.data.sharding import Shard
from tfzoo.data.streaming import Order, groups_of, shuffled, stream

if TYPE_CHECKING:
    import tensorflow as tf

CausalLmBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]

_BUFFER = 2048  # documents
_AT_ONCE = 64  # documents that are parsed together


def prepared_windows(
    prepared: Prepared, order: Order, *, sequence_length: int, batch_size: int, static_shapes: bool
) -> tf.data.Dataset:
    """Returns a share's batches of packed windows; see `tfzoo.data.causal_lm`.

    Every token of an epoch is a label exactly once, of one of the shares. The last batch of a group is padded.

    Raises:
        UsageError: `batch_size` does not go evenly to all devices, or there are fewer shards than shares.
    """
    import tensorflow as tf

    shard = order.shard
    rows = shard.batch_size(batch_size)
    num_labels = rows * sequence_length
    num_tokens = prepared.shards("tokens")
    target = prepared.tokenizer.target
    with tf.device("CPU"):  # a tf.data pipeline runs there
        end_id, pad_id = (tf.constant(one, tf.int32) for one in (target.end_id, target.pad_id))

    def read(shards: tf.Tensor, order_seed: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
        documents = read_documents(prepared, shards, order_seed if order.shuffle else None, order.deterministic)
        blocks = documents.map(_flat).rebatch(num_labels)
        return blocks.scan(end_id, lambda before, block: (block[-1], (before, block)))

    def example(element: tuple[tf.Tensor, tf.Tensor]) -> CausalLmBatch:
        before, block = element
        num_rows = -(-tf.size(block) // sequence_length)

        def cut(ids: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
            missing = num_rows * sequence_length - tf.size(ids)
            return tf.reshape(tf.concat([ids, tf.fill([missing], fill)], axis=0), [-1, sequence_length])

        is_real = cut(tf.ones_like(block), tf.constant(0))
        inputs = {
            "token_ids": cut(tf.concat([before[tf.newaxis], block[:-1]], axis=0), pad_id),
            "padding_mask": is_real,
        }
        batch = inputs, cut(block, pad_id), tf.cast(is_real, tf.float32)
        if static_shapes:
            return fill_rows(batch, rows)
        return fill_rows(batch, -(-num_rows // shard.num_devices) * shard.num_devices)

    return stream(
        prepared,
        order,
        num_batches=lambda group: -(-int(num_tokens[group].sum()) // num_labels),
        read=read,
        example=example,
    )


def prepared_overlapping_windows(
    prepared: Prepared, *, sequence_length: int, stride: int, batch_size: int
) -> tf.data.Dataset:
    """Returns overlapping windows that score each token once; see `tfzoo.data.causal_lm_windows`."""
    import tensorflow as tf

    num_tokens = int(prepared.shards("tokens").sum())
    num_windows = 1 + max(0, -(-(num_tokens - sequence_length) // stride))
    target = prepared.tokenizer.target
    # A window is what the last blocks of `stride` tokens held. The first one is complete after a whole number of them.
    num_first = -(-sequence_length // stride)
    num_before = num_first * stride - sequence_length
    num_behind = sequence_length + (num_windows - 1) * stride - num_tokens
    with tf.device("CPU"):  # a tf.data pipeline runs there
        before = tf.fill([num_before], tf.constant(target.end_id, tf.int32))
        behind = tf.fill([num_behind], tf.constant(target.pad_id, tf.int32))
        history = tf.fill([sequence_length + 1], tf.constant(target.end_id, tf.int32))
    tokens = tf.data.Dataset.from_tensors(before)
    for group in groups_of(prepared.num_shards, Shard()):
        tokens = tokens.concatenate(read_documents(prepared, tf.constant(group, tf.int64)).map(_flat))

    def windows(held: tf.Tensor, block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        held = tf.concat([held[stride:], block], axis=0)
        held = tf.ensure_shape(held[-(sequence_length + 1) :], [sequence_length + 1])
        return held, held

    def example(numbers: tf.Tensor, rows: tf.Tensor) -> CausalLmBatch:
        places = tf.range(sequence_length, dtype=tf.int64)
        is_real = numbers[:, tf.newaxis] * stride + places < num_tokens
        is_new = (places >= sequence_length - stride) | (numbers[:, tf.newaxis] == 0)
        inputs = {
            "token_ids": tf.where(is_real, rows[:, :-1], target.pad_id),
            "padding_mask": tf.cast(is_real, tf.int32),
        }
        return inputs, tf.where(is_real, rows[:, 1:], target.pad_id), tf.cast(is_real & is_new, tf.float32)

    return (
        tokens.concatenate(tf.data.Dataset.from_tensors(behind))
        .rebatch(stride, drop_remainder=True)
        .scan(history, windows)
        .skip(num_first - 1)
        .enumerate()
        .batch(batch_size)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(-(-num_windows // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )


def read_documents(
    prepared: Prepared, shards: tf.Tensor, order_seed: tf.Tensor | None = None, deterministic: bool = True
) -> tf.data.Dataset:
    """Returns the documents of shards, some at a time: (D, None) int32 ids, the end token behind each.

    Args:
        prepared: the corpus.
        shards: (S,) int64, their indices; they are read at the same time.
        order_seed: of the order, int64 scalar; None = as they stand in the shards.
        deterministic: False = some of them as soon as they are ready.
    """
    import tensorflow as tf

    files = tf.constant(prepared.files())

    def parse(records: tf.Tensor) -> tf.RaggedTensor:
        features = {"token_ids": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)}
        return tf.cast(tf.io.parse_example(records, features)["token_ids"], tf.int32)

    records = tf.data.Dataset.from_tensor_slices(tf.gather(files, shards)).interleave(
        tf.data.TFRecordDataset,
        cycle_length=tf.size(shards, tf.int64),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=deterministic,
    )
    if order_seed is not None:
        records = shuffled(records, _BUFFER, order_seed)
    return records.batch(_AT_ONCE).map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)


def _flat(documents: tf.RaggedTensor) -> tf.Tensor:
    return documents.flat_values
