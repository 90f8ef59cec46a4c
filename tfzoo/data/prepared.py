"""A corpus that `tfzoo prepare` tokenized once: what its folder holds, and the order in which it is streamed.

    dataset_info.json, features.json     a TensorFlow dataset: tfds.builder_from_directory(DIR) opens it
    prepared-train.tfrecord-00003-of-00016
    lengths/00003                        (N, 2) int32, little-endian: tokens and origin of each example of that shard
    tokenizer/                           what made the ids
    recipe.json                          what was asked for
    examples.json                        a few inputs, for the proof of an export
    statistics.json                      what was read, dropped and written; it comes last

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
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfzoo.data.sharding import Shard
from tfzoo.data.sources import parse_spec, weight
from tfzoo.errors import DataError, UsageError
from tfzoo.text.pairs import TokenizerPair, pair
from tfzoo.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

NAME, SPLIT = "prepared", "train"
STATISTICS, RECIPE, EXAMPLES, TOKENIZER, LENGTHS = (
    "statistics.json",
    "recipe.json",
    "examples.json",
    "tokenizer",
    "lengths",
)
VERSION = 1
GROUP = 16


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared corpus.

    Args:
        directory: its folder.
        statistics: see `tfzoo.data.shards.statistics`.
        tokenizer: what made its ids.
    """

    directory: Path
    statistics: dict[str, Any]
    tokenizer: TokenizerPair

    @property
    def num_shards(self) -> int:
        """Number of its shards."""
        return len(self.statistics["shards"])

    def shards(self, field: str) -> np.ndarray:
        """Returns (num_shards, ...) what the statistics say of each shard."""
        return np.array([one[field] for one in self.statistics["shards"]], np.int64)

    def files(self) -> list[str]:
        """Returns the TFRecord file of each shard."""
        return [str(shard_path(self.directory, index, self.num_shards)) for index in range(self.num_shards)]

    def lengths_files(self) -> list[str]:
        """Returns the file with the lengths of each shard."""
        return [str(lengths_path(self.directory, index)) for index in range(self.num_shards)]

    def examples(self) -> list[str]:
        """Returns a few inputs, as `tfzoo predict` takes them."""
        return json.loads((self.directory / EXAMPLES).read_text(encoding="utf-8"))


def shard_path(directory: Path, index: int, num_shards: int) -> Path:
    """Returns where TFDS looks for a shard."""
    return directory / f"{NAME}-{SPLIT}.tfrecord-{index:05d}-of-{num_shards:05d}"


def lengths_path(directory: Path, index: int) -> Path:
    """Returns where the lengths of a shard are."""
    return directory / LENGTHS / f"{index:05d}"


def prepared_directory(specs: str | Sequence[str]) -> Path | None:
    """Returns the folder of the one specification "prepared:DIR", or None when there is none such.

    Raises:
        UsageError: it has a weight, or stands beside others.
    """
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    if not any(spec.startswith("prepared:") for spec in specs):
        return None
    if len(specs) > 1 or weight(specs[0]) is not None:
        raise UsageError(
            f"{', '.join(specs)}: a prepared corpus is read alone, and without a weight; give its parts and their "
            "weights to one `tfzoo prepare`."
        )
    return Path(parse_spec(specs[0])[1])


def open_prepared(directory: Path, tokenizer: Tokenizer | TokenizerPair | None = None, **limits: Any) -> Prepared:
    """Opens a prepared corpus and checks that it is what would be made of its texts now.

    Args:
        directory: its folder.
        tokenizer: what the model's ids are; None = those of the corpus.
        **limits: fields of the recipe's data that decide which examples there are.

    Raises:
        DataError: the folder holds no finished corpus, or a damaged one.
        UsageError: it was made with another tokenizer or other limits.
    """
    path = directory / STATISTICS
    try:
        statistics = json.loads(path.read_text(encoding="utf-8"))
        if statistics["version"] != VERSION:
            raise UsageError(
                f"{directory} was prepared by another version of tfzoo (format {statistics['version']}, not "
                f"{VERSION}); prepare it again."
            )
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{directory} holds no prepared corpus: {STATISTICS} is missing. Name a folder that `tfzoo prepare` wrote; "
            "if it was interrupted, the same command finishes it."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise DataError(f"{path} is damaged ({error}); prepare the corpus again.") from error
    made_with = statistics["made_with"]
    for name, value in json.loads(json.dumps(limits)).items():
        if name not in made_with:
            raise UsageError(
                f"{directory} was prepared for the task {statistics['task']!r}, which has no `{name}`; prepare it for "
                "this recipe."
            )
        if made_with[name] != value:
            raise UsageError(
                f"{directory} was prepared with {name}={json.dumps(made_with[name])}; received "
                f"{name}={json.dumps(value)}. Set it in the recipe as it was, or prepare the corpus again."
            )
    own = TokenizerPair.load(directory / TOKENIZER)
    if tokenizer is not None and not same_tokenizer(own, tokenizer):
        raise UsageError(
            f"{directory} was prepared with another tokenizer; prepare it with this one by `tfzoo prepare "
            "--tokenizer=DIR`, where DIR is the run, or train a new run on it."
        )
    return Prepared(directory, statistics, own)


def same_tokenizer(first: TokenizerPair, second: Tokenizer | TokenizerPair) -> bool:
    """Whether two tokenizers are the same, file by file, whatever they put behind a prompt."""
    pairs = [dataclasses.replace(pair(one), prompt_suffix="") for one in (first, second)]
    return pairs[0].assets() == pairs[1].assets()


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
    shard: Shard,
    *,
    num_batches: Callable[[list[int]], int],
    read: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.data.Dataset],
    example: Callable[[Any], Any],
    shuffle: bool,
    seed: int,
    repeat: bool,
    start_step: int,
    deterministic: bool,
) -> tf.data.Dataset:
    """Returns a share's batches of one epoch, or of all, from batch `start_step` on.

    A share that has fewer batches in an epoch than another one repeats a batch, with weights of 0, until it has as
    many.

    Args:
        prepared: the corpus.
        shard: the share.
        num_batches: takes the shards of a group, gives the number of its batches.
        read: takes the shards of a group in their order, (S,) int64, a seed and the epoch (int64 scalars); gives what
            its batches are made of.
        example: takes an element of that, gives the batch (inputs, labels, sample_weight).
        shuffle: whether the order goes by (seed, epoch), or is the same in every epoch.
        seed: see there.
        repeat: True = endless.
        start_step: batches to skip.
        deterministic: False = each batch as soon as it is ready.

    Returns: a dataset of known cardinality, of the batches of the share's devices.

    Raises:
        UsageError: there are fewer shards than shares, a share without an example, or `start_step` is negative.
    """
    import tensorflow as tf

    if start_step < 0:
        raise UsageError(f"`start_step` must be at least 0; received start_step={start_step}.")
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

    def order(epoch: tf.Tensor) -> tf.Tensor:
        own = tf.range(num_own, dtype=tf.int64)
        if shuffle:
            own = tf.random.experimental.stateless_shuffle(own, tf.stack([tf.constant(seed, tf.int64), epoch]))
        return tf.concat([own, tf.range(num_own, len(groups), dtype=tf.int64)], axis=0)

    first_epoch, skipped = divmod(start_step, longest)
    with tf.device("CPU"):
        ends = np.cumsum(np.array(counts)[order(tf.constant(first_epoch, tf.int64)).numpy()])
        members = tf.ragged.constant(groups, tf.int64)
    first_group = int(np.searchsorted(ends, skipped, side="right"))
    num_skipped = skipped - int(ends[first_group - 1] if first_group else 0)

    def groups_in(epoch: tf.Tensor) -> tf.data.Dataset:
        epochs = tf.data.Dataset.from_tensors(epoch).repeat()
        return tf.data.Dataset.zip(epochs, tf.data.Dataset.from_tensor_slices(order(epoch)))

    def batches_in(epoch: tf.Tensor, group: tf.Tensor) -> tf.data.Dataset:
        shards = members[group]
        own_seed = tf.constant(seed, tf.int64)
        if shuffle:
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
        tf.data.Dataset.range(first_epoch, tf.int64.max if repeat else 1)
        .flat_map(groups_in)
        .skip(first_group)
        .flat_map(batches_in)
        .skip(num_skipped)
        .map(weighed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .apply(
            tf.data.experimental.assert_cardinality(
                tf.data.INFINITE_CARDINALITY if repeat else max(0, longest - start_step)
            )
        )
    )
    if not deterministic:
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
