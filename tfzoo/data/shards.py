"""Partitions of a corpus to the shards of a TensorFlow dataset, with what is known of them.

A pair is an example {"source_ids", "target_ids", "origin"}: the source with its end token, the target without one. A
document is {"token_ids"}, with its end token. Lengths are what a batch is planned by: of a pair the longer of source
and target, the end token included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfzoo.data.boundaries import choose_boundaries
from tfzoo.data.examples import encode_source
from tfzoo.data.partitions import Item, Job, made_with
from tfzoo.data.prepared import NAME, SPLIT, VERSION, lengths_path, read_lengths, shard_path
from tfzoo.data.sources import mixture
from tfzoo.errors import DataError
from tfzoo.folders import aside
from tfzoo.text.pairs import TokenizerPair

if TYPE_CHECKING:
    import tensorflow as tf

DROPPED = ("empty", "duplicate", "too_long", "without_token")
_FEATURES = {"seq2seq": ("source_ids", "target_ids"), "causal_lm": ("token_ids",), "fill_mask": ("token_ids",)}
_CHUNK_RECORDS = 4096
_CHUNK_CHARACTERS = 1 << 20  # tokenized at once, with about 40 bytes of memory each


def write_shard(
    job: Job, index: int, records: Iterable[Item], tokenizer: TokenizerPair, directory: Path
) -> dict[str, Any]:
    """Tokenizes the records of a partition and writes the shard and its lengths, each whole or not at all.

    Args:
        job: what is prepared.
        index: number of the shard.
        records: in the order of their hashes.
        tokenizer: gives the ids.
        directory: of the dataset, with the folder of its lengths.

    Returns: `examples`, `tokens`, `bytes`, `first` (texts of the first example) and what was dropped, by reason.
    """
    import tensorflow as tf

    found: dict[str, Any] = {"examples": 0, "tokens": 0, "bytes": 0, "first": None}
    found |= dict.fromkeys(DROPPED[1:], 0)
    paths = shard_path(directory, index, job.num_shards), lengths_path(directory, index)
    asides = [aside(path) for path in paths]
    with tf.io.TFRecordWriter(str(asides[0])) as writer, asides[1].open("wb") as lengths_file:
        for chunk in _chunks(_without_duplicates(job, records, found)):
            features, is_kept = (_pairs if job.task == "seq2seq" else _documents)(job, chunk, tokenizer, found)
            kept = [item for item, keeps in zip(chunk, is_kept.tolist(), strict=True) if keeps]
            if not kept:
                continue
            found["first"] = found["first"] or list(kept[0].texts)
            origins = np.array([item.origin for item in kept], np.int64)
            lengths = features[0].row_lengths().numpy()
            if job.task == "seq2seq":
                lengths = np.maximum(lengths, features[1].row_lengths().numpy() + 1)
            lengths_file.write(np.stack([lengths, origins], axis=1).astype("<i4").tobytes())
            for example in _serialized(job, features, origins):
                writer.write(example)
                found["bytes"] += len(example)
            found["examples"] += len(kept)
            found["tokens"] += sum(int(tf.size(one.flat_values)) for one in features)
    for part, path in zip(asides, paths, strict=True):
        part.replace(path)
    return found


def _without_duplicates(job: Job, records: Iterable[Item], found: dict[str, Any]) -> Iterator[Item]:
    last = None
    for item in records:
        if job.deduplicates and item.digest == last:
            found["duplicate"] += 1
        else:
            yield item
        last = item.digest


def _chunks(records: Iterable[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    num_characters = 0
    for item in records:
        chunk.append(item)
        num_characters += sum(map(len, item.texts))
        if len(chunk) == _CHUNK_RECORDS or num_characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk


def _pairs(
    job: Job, chunk: list[Item], tokenizer: TokenizerPair, found: dict[str, Any]
) -> tuple[list[tf.RaggedTensor], np.ndarray]:
    """Returns the ids of the pairs that are short enough, and which these are."""
    import tensorflow as tf

    from tfzoo.text.ragged import kept_rows

    if job.max_source_length is None or job.max_target_length is None:
        raise ValueError("pairs have limits.")
    sources, targets = (tf.constant(texts) for texts in zip(*(item.texts for item in chunk), strict=True))
    # One token beyond the limit is enough to see that an example is too long.
    source_ids = encode_source(sources, tokenizer.source, job.max_source_length + 1)
    target_ids = tokenizer.target.tokenize(targets)
    is_short = source_ids.row_lengths() <= job.max_source_length
    is_short &= target_ids.row_lengths() < job.max_target_length
    found["too_long"] += int(np.sum(~is_short.numpy()))
    return [kept_rows(ids, is_short) for ids in (source_ids, target_ids)], is_short.numpy()


def _documents(
    job: Job, chunk: list[Item], tokenizer: TokenizerPair, found: dict[str, Any]
) -> tuple[list[tf.RaggedTensor], np.ndarray]:
    """Returns the ids of the documents that have a token, the end token behind each, and which these are."""
    import tensorflow as tf

    from tfzoo.text.ragged import kept_rows

    ids = tokenizer.target.tokenize(tf.constant([item.texts[0] for item in chunk]))
    has_tokens = ids.row_lengths() > 0
    found["without_token"] += int(np.sum(~has_tokens.numpy()))
    ids = kept_rows(ids, has_tokens)
    end = tf.fill([ids.nrows(), 1], tf.constant(tokenizer.target.end_id, ids.dtype))
    return [tf.concat([ids, end], axis=1)], has_tokens.numpy()


def _serialized(job: Job, features: list[tf.RaggedTensor], origins: np.ndarray) -> Iterator[bytes]:
    import tensorflow as tf

    flat = [(one.flat_values.numpy().tolist(), one.row_splits.numpy().tolist()) for one in features]
    for row, origin in enumerate(origins.tolist()):
        example = tf.train.Example()
        feature = example.features.feature
        for name, (values, splits) in zip(_FEATURES[job.task], flat, strict=True):
            feature[name].int64_list.value.extend(values[splits[row] : splits[row + 1]])
        if job.task == "seq2seq":
            feature["origin"].int64_list.value.append(origin)
        # The features in the order of their names: otherwise it differs from process to process.
        yield example.SerializeToString(deterministic=True)


def statistics(job: Job, shards: list[dict[str, Any]], units: list[dict[str, Any]], directory: Path) -> dict[str, Any]:
    """Returns what is known of a corpus all of whose shards are written.

    Args:
        job: what was prepared.
        shards: what `write_shard` returned for each.
        units: `read` and `empty` of each unit.
        directory: of the dataset.

    Returns: `num_examples`, `num_tokens`, `num_read`; `dropped`, how many by reason; `lengths`, how many examples there
        are of `up_to` so many tokens; `shards`, `examples` and `tokens` of each. Of pairs, `boundaries`, the longest
        length of each bucket, and in `shards` the examples in each bucket, by origin.

    Raises:
        DataError: no example is left.
    """
    num_examples = sum(one["examples"] for one in shards)
    num_read, num_empty = (sum(one[name] for one in units) for name in ("read", "empty"))
    dropped = {"empty": num_empty} | {name: sum(one[name] for one in shards) for name in DROPPED[1:]}
    if not num_examples:
        reasons = ", ".join(f"{count} {name}" for name, count in dropped.items() if count)
        raise DataError(
            f"{', '.join(job.specs)}: none of the {num_read} examples is left ({reasons}); give more data, raise "
            "the limits, or clean less."
        )
    found: dict[str, Any] = {
        "version": VERSION,
        "task": job.task,
        "specs": list(job.specs),
        "weights": mixture(job.specs) if job.task == "seq2seq" else None,
        "made_with": made_with(job),
        "num_read": num_read,
        "dropped": dropped,
        "num_examples": num_examples,
        "num_tokens": sum(one["tokens"] for one in shards),
    }
    rows = [{"examples": one["examples"], "tokens": one["tokens"]} for one in shards]
    histogram = np.zeros(1, np.int64)
    for index in range(job.num_shards):
        own = np.bincount(read_lengths(directory, index)[:, 0], minlength=len(histogram))
        own[: len(histogram)] += histogram
        histogram = own
    if job.task == "seq2seq":
        ends = found["boundaries"] = choose_boundaries(histogram)
        for index, row in enumerate(rows):
            lengths, origins = read_lengths(directory, index).T
            table = np.zeros((len(ends), len(job.specs)), np.int64)
            np.add.at(table, (np.searchsorted(ends, lengths), origins), 1)
            row["buckets"] = table.tolist()
    else:
        ends = [1 << place for place in range(1, int(len(histogram) - 1).bit_length() + 1)]
    sums = np.cumsum(histogram)[np.minimum(ends, len(histogram) - 1)]
    found["lengths"] = {"up_to": list(ends), "examples": np.diff(sums, prepend=0).tolist()}
    return found | {"shards": rows}


def write_metadata(job: Job, shards: list[dict[str, Any]], directory: Path) -> None:
    """Writes what makes the folder a dataset to TFDS.

    Args:
        job: what was prepared.
        shards: what `write_shard` returned for each.
        directory: of the dataset.
    """
    import tensorflow_datasets as tfds

    ids = tfds.features.Sequence(tfds.features.Scalar(np.int32))
    features: dict[str, Any] = dict.fromkeys(_FEATURES[job.task], ids)
    if job.task == "seq2seq":
        features["origin"] = tfds.features.Scalar(np.int64)
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=NAME, split=SPLIT, filetype_suffix="tfrecord"
    )
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[one["examples"] for one in shards],
        num_bytes=sum(one["bytes"] for one in shards),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=str(directory),
        features=tfds.features.FeaturesDict(features),
        split_infos=[split],
        description=f"Token ids for the task {job.task}, as `tfzoo prepare` made them of {', '.join(job.specs)}; "
        f"{json.dumps(made_with(job))}.",
    )
