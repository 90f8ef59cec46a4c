"""The sentences of documents as token ids in memory, and which of them make up a row.

A sentence ends at a line end, behind ".", "!" or "?" with white space after it, and behind their Chinese counterparts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from tfzoo.data.documents import read_documents
from tfzoo.errors import DataError
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

_END = re.compile(r"\n+|(?<=[.!?])\s+|(?<=[。！？])")


@dataclasses.dataclass(frozen=True)
class Sentences:
    """S sentences one after the other, M tokens, and R rows of at least two sentences of one document each.

    Args:
        token_ids: (M,) int32, without special tokens.
        starts: (S + 1,) int64, index of each sentence's first token, and M.
        first_of_document: (S,) int64, the first sentence of each sentence's document.
        end_of_document: (S,) int64, the sentence behind the last one of each sentence's document.
        row_starts: (R,) int64, the first sentence of each row.
        row_limits: (R,) int64, the sentence behind the last one of each row.
    """

    token_ids: tf.Tensor
    starts: tf.Tensor
    first_of_document: tf.Tensor
    end_of_document: tf.Tensor
    row_starts: tf.Tensor
    row_limits: tf.Tensor


def split_sentences(document: str) -> list[str]:
    r"""Returns the sentences of a document.

    >>> split_sentences("One, e.g. 1.5. Two?\nThree")
    ['One, e.g.', '1.5.', 'Two?', 'Three']
    """
    return [sentence for sentence in _END.split(document) if sentence.strip()]


def tokenize_sentences(
    specs: str | Sequence[str], tokenizer: WordPieceTokenizer, cleaning: Sequence[str], row_tokens: int
) -> Sentences:
    """Reads, cleans and tokenizes all sentences of all documents, and makes rows of as many as fit.

    A sentence of more than half of `row_tokens` is cut into several, so that two always fit. A last sentence that would
    be alone in its row is put into another one with the sentence before it. Documents of one sentence are in no row.

    Args:
        specs: data specifications of one column, see `tfzoo.data.sources`.
        tokenizer: gives the ids.
        cleaning: names of steps, see `tfzoo.data.cleaning`.
        row_tokens: most tokens of a row, special tokens not included.

    Raises:
        UsageError: no specification, an unknown one, or one with a weight; an unknown step.
        DataError: missing or malformed data, fewer than two documents, or none of two sentences.
    """
    import tensorflow as tf

    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    token_ids: list[np.ndarray] = []
    documents: list[np.ndarray] = []  # of the lengths of a document's sentences
    for chunk in read_documents(specs, cleaning):
        sentences = tf.ragged.constant(
            [split_sentences(document) for document in chunk], tf.string, ragged_rank=1, row_splits_dtype=tf.int64
        )
        ids = tokenizer.tokenize(sentences.flat_values)
        token_ids.append(ids.flat_values.numpy())
        for lengths in np.split(ids.row_lengths().numpy(), sentences.row_splits.numpy()[1:-1]):
            if cut := [part for length in lengths.tolist() for part in _cut(length, row_tokens // 2)]:
                documents.append(np.array(cut, np.int64))
    rows: list[tuple[int, int]] = []
    first = 0
    for lengths in documents:
        rows += [(first + start, first + limit) for start, limit in _rows(lengths.tolist(), row_tokens)]
        first += len(lengths)
    if len(documents) < 2 or not rows:
        raise DataError(
            f"{', '.join(specs)}: {len(documents)} document(s), of which {len(rows)} pairs of sentences can be made; "
            "whether a sentence follows another is learnt of at least two documents with two sentences in one of them. "
            "Give more data, or set `next_sentence` to false."
        )
    logging.info("%s: %d documents, %d sentences, %d rows.", ", ".join(specs), len(documents), first, len(rows))
    counts = np.array([len(lengths) for lengths in documents])
    ends = np.cumsum(counts)
    with tf.device("CPU"):  # a tf.data pipeline runs there
        return Sentences(
            tf.constant(np.concatenate(token_ids)),
            tf.constant(np.concatenate([[0], np.cumsum(np.concatenate(documents))]), tf.int64),
            tf.constant(np.repeat(ends - counts, counts), tf.int64),
            tf.constant(np.repeat(ends, counts), tf.int64),
            *(tf.constant(side, tf.int64) for side in np.array(rows).T),
        )


def _cut(length: int, longest: int) -> list[int]:
    """Returns the lengths of a sentence's parts.

    >>> _cut(7, 3)
    [3, 3, 1]
    """
    return [min(longest, length - start) for start in range(0, length, longest)]


def _rows(lengths: Sequence[int], row_tokens: int) -> list[tuple[int, int]]:
    """Returns the first sentence of each row of a document, and that behind the last.

    >>> _rows([2, 2, 2, 1], 5)
    [(0, 2), (2, 4)]
    >>> _rows([2, 2, 2], 5)
    [(0, 2), (1, 3)]
    """
    rows = []
    start = num_tokens = 0
    for index, length in enumerate(lengths):
        if num_tokens + length > row_tokens:
            rows.append((start, index))
            start, num_tokens = index, 0
        num_tokens += length
    if len(lengths) > 1:
        rows.append((min(start, len(lengths) - 2), len(lengths)))
    return rows
