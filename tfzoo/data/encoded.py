"""The inputs of an encoder as token ids in memory: 4 bytes a token, tokenized once and in graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from tfzoo.data.corpus import chunks
from tfzoo.data.examples import join_segments, segment_inputs
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class EncodedTexts:
    """N inputs of one or two texts.

    Args:
        token_ids: (N, None) int32, cut to the greatest length and with [CLS] and [SEP].
        first_lengths: (N,) int64, how many of them belong to the first text.
        origins: (N,) int, index of the data specification that each comes from.
        pad_id: token id of padding.
    """

    token_ids: tf.RaggedTensor
    first_lengths: tf.Tensor
    origins: np.ndarray
    pad_id: int

    def lengths(self) -> np.ndarray:
        """Returns (N,) tokens of each input."""
        return self.token_ids.row_lengths().numpy()

    def inputs(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `token_ids`, `padding_mask` and `segment_ids` of (B,) inputs, (B, T) int32 each."""
        import tensorflow as tf

        return segment_inputs(tf.gather(self.token_ids, indices), tf.gather(self.first_lengths, indices), self.pad_id)


def encode_texts(
    specs: Sequence[str],
    records: Callable[[str], Iterator[tuple[str, ...]]],
    tokenizer: WordPieceTokenizer,
    sequence_length: int,
) -> EncodedTexts:
    """Reads and tokenizes all inputs of all specifications; the log says how many were cut.

    Args:
        specs: data specifications.
        records: gives the texts of a specification, one or two in each record.
        tokenizer: gives the ids.
        sequence_length: most tokens of an input, [CLS] and [SEP] included.
    """
    import tensorflow as tf

    values, row_lengths, first_lengths, num_of_spec = [], [], [], []
    for spec in specs:
        num_read = num_cut = 0
        for chunk in chunks(records(spec)):
            texts = [tokenizer.tokenize(tf.constant(column)) for column in zip(*chunk, strict=True)]
            ids, firsts = join_segments(texts[0], texts[1] if len(texts) == 2 else None, tokenizer, sequence_length)
            whole = sum(text.row_lengths().numpy() for text in texts) + 1 + len(texts)
            num_read += len(chunk)
            num_cut += int((whole > sequence_length).sum())
            values.append(ids.flat_values.numpy())
            row_lengths.append(ids.row_lengths().numpy())
            first_lengths.append(firsts.numpy())
        logging.info("%s: %d inputs; %d cut to sequence_length=%d.", spec, num_read, num_cut, sequence_length)
        num_of_spec.append(num_read)
    with tf.device("CPU"):  # a tf.data pipeline runs there
        return EncodedTexts(
            tf.RaggedTensor.from_row_lengths(np.concatenate(values), np.concatenate(row_lengths), validate=False),
            tf.constant(np.concatenate(first_lengths), tf.int64),
            np.repeat(np.arange(len(specs)), num_of_spec),
            tokenizer.pad_id,
        )
