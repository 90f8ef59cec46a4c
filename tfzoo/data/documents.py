"""The documents of a language model's corpus as token ids in memory: 4 bytes a token, tokenized once and in graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from tfzoo.data.cleaning import clean
from tfzoo.data.sources import read, weight
from tfzoo.errors import DataError, UsageError
from tfzoo.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

# Tokenized at once: in graph twice to five times as fast as `encode`, but with about 40 bytes of memory a character.
_CHUNK_DOCUMENTS = 4096
_CHUNK_CHARACTERS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Documents:
    """N documents, each with the end token behind it: M tokens, each of which is a label once an epoch.

    Args:
        token_ids: (M,) int32.
        starts: (N,) int64, index of each document's first token.
        lengths: (N,) int64, tokens of each document, its end token included.
        num_tokens: M.
    """

    token_ids: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    num_tokens: int


def tokenize_documents(specs: str | Sequence[str], tokenizer: Tokenizer, cleaning: Sequence[str] = ()) -> Documents:
    """Reads, cleans and tokenizes all documents of all specifications, in their order.

    Duplicates are looked for across specifications. Documents without a token are left out.

    Args:
        specs: data specifications of one column, see `tfzoo.data.sources`.
        tokenizer: gives the ids, and the end token.
        cleaning: names of steps, see `tfzoo.data.cleaning`.

    Raises:
        UsageError: no specification, an unknown one, or one with a weight; an unknown step.
        DataError: missing or malformed data, or no document with a token in it.
    """
    import tensorflow as tf

    from tfzoo.text.ragged import kept_rows

    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    end = np.array([tokenizer.end_id], np.int32)
    token_ids: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    num_empty = 0
    for chunk in read_documents(specs, cleaning):
        ids = tokenizer.tokenize(tf.constant(chunk))
        has_tokens = ids.row_lengths() > 0
        ids = kept_rows(ids, has_tokens)
        ids = tf.concat([ids, tf.tile(end[None], [ids.nrows(), 1])], axis=1)
        token_ids.append(ids.flat_values.numpy())
        lengths.append(ids.row_lengths().numpy())
        num_empty += len(chunk) - len(lengths[-1])
    num_documents = sum(map(len, lengths))
    if not num_documents:
        raise DataError(f"{', '.join(specs)}: no document with a token in it; give more data, or less `cleaning`.")
    num_tokens = sum(map(len, token_ids))
    logging.info(
        "%s: %d documents, %d tokens with an end token each; %d documents without a token left out.",
        ", ".join(specs),
        num_documents,
        num_tokens,
        num_empty,
    )
    with tf.device("CPU"):  # a tf.data pipeline runs there
        all_lengths = tf.constant(np.concatenate(lengths), tf.int64)
        return Documents(
            tf.constant(np.concatenate(token_ids)), tf.cumsum(all_lengths, exclusive=True), all_lengths, num_tokens
        )


def read_documents(specs: Sequence[str], cleaning: Sequence[str]) -> Iterator[list[str]]:
    """Returns the cleaned documents of all specifications, in lists of as many as are tokenized at once.

    Args:
        specs: data specifications of one column.
        cleaning: names of steps, see `tfzoo.data.cleaning`.

    Raises:
        UsageError: no specification, an unknown one, or one with a weight; an unknown step.
        DataError: missing or malformed data; while it is read.
    """
    if not specs:
        raise UsageError("`specs` is empty; name at least one, such as `text:book.txt`.")
    for spec in specs:
        if weight(spec) is not None:
            raise UsageError(
                f"{spec}: a language model reads every document once an epoch, so that a weight has no meaning; "
                "leave it out, or repeat the specification."
            )
    records = [read(spec, columns=1) for spec in specs]
    return _chunks(clean((text for one in records for (text,) in one), cleaning))


def _chunks(documents: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    num_characters = 0
    for document in documents:
        chunk.append(document)
        num_characters += len(document)
        if len(chunk) == _CHUNK_DOCUMENTS or num_characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk
