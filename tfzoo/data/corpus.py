"""The examples of a run as token ids in memory: 4 bytes a token, tokenized once and in graph."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from absl import logging

from tfzoo.data.cleaning import Cleaner
from tfzoo.data.examples import encode_source
from tfzoo.data.lines import Part
from tfzoo.data.sources import read
from tfzoo.errors import DataError
from tfzoo.text.pairs import TokenizerPair

if TYPE_CHECKING:
    import tensorflow as tf

Record = TypeVar("Record")

_CHUNK = 4096  # records tokenized at once


@dataclasses.dataclass(frozen=True)
class Corpus:
    """N examples as token ids.

    Args:
        source_ids: (N, None) int32, the end token included.
        target_ids: (N, None) int32, without start and end token.
        origins: (N,) int, index of the data specification that each example comes from.
    """

    source_ids: tf.RaggedTensor
    target_ids: tf.RaggedTensor
    origins: np.ndarray

    def lengths(self) -> np.ndarray:
        """Returns (N,) the longer of source and target in tokens, the end token included."""
        return np.maximum(self.source_ids.row_lengths().numpy(), self.target_ids.row_lengths().numpy() + 1)


def read_pairs(
    spec: str, *, is_reversed: bool = False, one_column: bool = False, parts: Sequence[Part] = ()
) -> Iterator[tuple[str, str]]:
    """Yields the (source, target) texts of a data specification, which is looked up at once.

    Args:
        spec: see `tfzoo.data.sources`.
        is_reversed: whether the second column is the source.
        one_column: whether a record is one text, which is both.
        parts: those to read alone, see `tfzoo.data.sources.read`.

    Raises:
        UsageError: an unknown specification, or one without such columns.
        DataError: missing or malformed data.
    """
    records = read(spec, 1 if one_column else 2, parts=parts)
    first, last = (-1, 0) if is_reversed else (0, -1)
    return ((record[first], record[last]) for record in records)


def tokenize(
    specs: Sequence[str],
    tokenizers: TokenizerPair,
    *,
    max_source_length: int,
    max_target_length: int,
    is_reversed: bool = False,
    one_column: bool = False,
    cleaning: Sequence[str] = (),
) -> Corpus:
    """Reads and tokenizes all records of all specifications; those that are too long are left out and counted.

    Args:
        specs: data specifications, see `tfzoo.data.sources`.
        tokenizers: of source and target.
        max_source_length: longest source in tokens, the end token included.
        max_target_length: the same for the target.
        is_reversed: see `read_pairs`.
        one_column: the same.
        cleaning: names of steps, see `tfzoo.data.cleaning`; duplicates are looked for across specifications.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data, or no example that is short enough.
    """
    import tensorflow as tf

    from tfzoo.text.ragged import kept_rows

    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    lengths: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    kept_of_spec = []
    cleaner = Cleaner(cleaning)
    for spec in specs:
        num_read = num_kept = 0
        records = map(cleaner, read_pairs(spec, is_reversed=is_reversed, one_column=one_column))
        for chunk in chunks(record for record in records if record):
            sources, targets = zip(*chunk, strict=True)
            # One token beyond the limit is enough to see that an example is too long.
            source_ids = encode_source(tf.constant(sources), tokenizers.source, max_source_length + 1)
            target_ids = tokenizers.target.tokenize(tf.constant(targets))
            is_short = (source_ids.row_lengths() <= max_source_length) & (target_ids.row_lengths() < max_target_length)
            for side, ids in enumerate((source_ids, target_ids)):
                kept = kept_rows(ids, is_short)
                sides[side].append(kept.flat_values.numpy())
                lengths[side].append(kept.row_lengths().numpy())
            num_read += len(chunk)
            num_kept += len(lengths[0][-1])
        limits = f"max_source_length={max_source_length} or max_target_length={max_target_length}"
        logging.info("%s: %d examples; %d longer than %s left out.", spec, num_kept, num_read - num_kept, limits)
        if not num_kept:
            raise DataError(
                f"{spec}: each of its {num_read} examples is longer than {limits} tokens; raise the limits."
            )
        kept_of_spec.append(num_kept)
    if cleaning:
        logging.info("cleaning: %s.", cleaner.report())
    with tf.device("CPU"):  # a tf.data pipeline runs there
        source_ids, target_ids = (
            tf.RaggedTensor.from_row_lengths(np.concatenate(values), np.concatenate(rows), validate=False)
            for values, rows in zip(sides, lengths, strict=True)
        )
    return Corpus(source_ids, target_ids, np.repeat(np.arange(len(specs)), kept_of_spec))


def chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Yields the records in lists of as many as are tokenized at once."""
    while chunk := list(itertools.islice(records, _CHUNK)):
        yield chunk
