"""The order in which a prepared corpus is streamed, a function of (seed, epoch).

Which shard an example is in, and where, goes by a hash of its text: every shard is a random sample of the corpus. An
epoch takes the shards of a share in groups of up to `GROUP`. The groups are always the same; their order, that of the
shards in them, and that of the examples, which goes through a buffer, are a function of (seed, epoch). A batch comes
from one group, so that every epoch has the same number of batches, which is read off the statistics, and so that a run
that goes on within an epoch passes over whole groups and reads again what it had read of the last one alone.

In memory are the buffer, the examples that wait for their batch to be full, and 8 bytes for each example of the shards
that are open; nothing for each example of the corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tfzoo.data.prepared import Prepared
from tfzoo.data.sharding import Shard
from tfzoo.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

GROUP = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """Which batches of a corpus are read, and in which order.

    Args:
        shuffle: whether the order goes by (seed, epoch), or is the same in every epoch.
        seed: see there.
        repeat: True = endless, False = one epoch.
        start_step: batches to skip.
        deterministic: False = each batch as soon as it is ready.
        shard: the share that is read.

    Raises:
        UsageError: `start_step` is negative.
    """

    shuffle: bool
    seed: int
    repeat: bool
    start_step: int
    deterministic: bool = True
    shard: Shard = Shard()

    def __post_init__(self) -> None:
        if self.start_step < 0:
            raise UsageError(f"`start_step` must be at least 0; received start_step={self.start_step}.")


def groups_of(num_shards: int, shard: Shard) -> list[list[int]]:
    """Returns the shards of a share, in as few groups of up to `GROUP` as there can be, about equally large.

        5 shards, the first of 2 shares  ->  [[0, 2, 4]]

    Raises:
        UsageError: there are fewer shards than shares.
    """
    if num_shards < shard.count:
        raise UsageError(
            f"the corpus has {num_shards} shards, too few for {shard.count} workers to read each its own; prepare it "
            f"with --num_shards={shard.count} or more."
        )
    own = list(range(shard.index, num_shards, shard.count))
    num_groups = -(-len(own) // GROUP)
    return [own[start::num_groups] for start in range(num_groups)]


def stream(
    prepared: Prepared,
    order: Order,
    *,
    num_batches: Callable[[list[int]], int],
    read: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.data.Dataset],
    example: Callable[[Any], Any],
) -> tf.data.Dataset:
    """Returns a share's batches of one epoch, or of all, from batch `order.start_step` on.

    A share that has fewer batches in an epoch than another one repeats a batch, with weights of 0, until it has as
    many.

    Args:
        prepared: the corpus.
        order: which batches, and of which share.
        num_batches: takes the shards of a group, gives the number of its batches.
        read: takes the shards of a group in their order, (S,) int64, a seed and the epoch (int64 scalars); gives what
            its batches are made of.
        example: takes an element of that, gives the batch (inputs, labels, sample_weight).

    Returns: a dataset of known cardinality, of the batches of the share's devices.

    Raises:
        UsageError: there are fewer shards than shares, or a share without an example.
    """
    import tensorflow as tf

    shard, seed = order.shard, order.seed
    groups = groups_of(prepared.num_shards, shard)
    counts = [num_batches(group) for group in groups]
    if not sum(counts):
        raise UsageError(
            f"{prepared.directory}: the share {shard.index} of {shard.count} has no example; prepare the corpus with "
            "fewer, larger shards, or train on fewer workers."
        )
    shares = [dataclasses.replace(shard, index=index) for index in range(shard.count)]
    longest = max(sum(map(num_batches, groups_of(prepared.num_shards, one))) for one in shares)
    repeated = int(np.argmax(counts))
    if longest > sum(counts):
        groups.append(groups[repeated])
        counts.append(longest - sum(counts))
    num_own = len(groups_of(prepared.num_shards, shard))

    def groups_of_epoch(epoch: tf.Tensor) -> tf.Tensor:
        own = tf.range(num_own, dtype=tf.int64)
        if order.shuffle:
            own = tf.random.experimental.stateless_shuffle(own, tf.stack([tf.constant(seed, tf.int64), epoch]))
        return tf.concat([own, tf.range(num_own, len(groups), dtype=tf.int64)], axis=0)

    first_epoch, skipped = divmod(order.start_step, longest)
    with tf.device("CPU"):
        ends = np.cumsum(np.array(counts)[groups_of_epoch(tf.constant(first_epoch, tf.int64)).numpy()])
        members = tf.ragged.constant(groups, tf.int64)
    first_group = int(np.searchsorted(ends, skipped, side="right"))
    num_skipped = skipped - int(ends[first_group - 1] if first_group else 0)

    def groups_in(epoch: tf.Tensor) -> tf.data.Dataset:
        epochs = tf.data.Dataset.from_tensors(epoch).repeat()
        return tf.data.Dataset.zip(epochs, tf.data.Dataset.from_tensor_slices(groups_of_epoch(epoch)))

    def batches_in(epoch: tf.Tensor, group: tf.Tensor) -> tf.data.Dataset:
        shards = members[group]
        own_seed = tf.constant(seed, tf.int64)
        if order.shuffle:
            both = tf.stack([own_seed, epoch * len(groups) + group])
            shards = tf.random.experimental.stateless_shuffle(shards, both)
            own_seed = tf.random.stateless_uniform([], both, minval=0, maxval=tf.int64.max, dtype=tf.int64)
        batches = read(shards, own_seed, epoch)
        is_real = group < num_own
        if len(groups) > num_own:
            batches = batches.take(tf.where(is_real, tf.constant(-1, tf.int64), 1))
            batches = batches.repeat(tf.where(is_real, tf.constant(1, tf.int64), counts[-1]))
        return tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensors(is_real).repeat())

    def weighed(element: Any, is_real: tf.Tensor) -> Any:
        inputs, labels, weights = example(element)
        return inputs, labels, weights * tf.cast(is_real, weights.dtype) if len(groups) > num_own else weights

    dataset = (
        tf.data.Dataset.range(first_epoch, tf.int64.max if order.repeat else 1)
        .flat_map(groups_in)
        .skip(first_group)
        .flat_map(batches_in)
        .skip(num_skipped)
        .map(weighed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=order.deterministic)
        .apply(
            tf.data.experimental.assert_cardinality(
                tf.data.INFINITE_CARDINALITY if order.repeat else max(0, longest - order.start_step)
            )
        )
    )
    if not order.deterministic:
        options = tf.data.Options()
        options.deterministic = False
        dataset = dataset.with_options(options)
    return shard.devices(dataset)


def shuffled(dataset: tf.data.Dataset, buffer_size: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Returns the dataset through a buffer, in an order that is a function of `seed` alone.

    It is called where a dataset is made in graph, as `flat_map` does.
    """
    import tensorflow as tf

    # Dataset.shuffle also draws on the seed of the program, which is the model's, and not the data's; within a function
    # that is the function's own. Of 0 it would compare the other seed, which has no value yet, with 0.
    tf.compat.v1.set_random_seed(1)
    return dataset.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)
