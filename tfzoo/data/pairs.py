"""Pairs of like texts to the batches that an encoder learns vectors of texts on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfzoo.data.batches import sorted_batches
from tfzoo.data.config import EncoderDataConfig
from tfzoo.data.encoded import encode_texts
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.data.sources import mixture, read
from tfzoo.errors import DataError
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

TextPairsBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]

FIELDS = ("text_a", "text_b")
"""Names of the texts of a pair: columns of TSV, fields of JSON."""


def text_pairs(
    specs: str | Sequence[str],
    tokenizer: WordPieceTokenizer,
    *,
    sequence_length: int = 128,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Returns batches of B pairs as 2 B rows: the first texts, and behind them the second ones in the same order.

    The partner of a text is to be told from all other texts of the batch (Henderson et al., 2017, section 4.4,
    https://arxiv.org/abs/1705.00652). Pairs of similar length share a batch, and every batch but the last of an epoch
    is full; all pairs are read and tokenized in this call. The order is a function of `seed` and the epoch alone. With
    [CLS] = 2, [SEP] = 3, "a" = 5, "b" = 6, "c" = 7, the lines a<TAB>b and c<TAB>a b give

        token_ids [[2, 5, 3, 0], [2, 7, 3, 0], [2, 6, 3, 0], [2, 5, 6, 3]]
        labels    [2, 3, 0, 1]

    Args:
        specs: one data specification of (text_a, text_b) or several, see `tfzoo.data.sources`. Several are
            concatenated; if one has a weight ("tsv:titles.tsv@0.3"), they are mixed by their weights, 1 where none is
            given.
        tokenizer: gives the ids.
        sequence_length: most tokens of a text, [CLS] and [SEP] included; longer ones are cut, and counted in the log.
        batch_size: B, pairs in a batch.
        shuffle: False = as they stand in the files, but sorted by length some batches at a time.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True = batches of few shapes, for XLA and TPU: T is the end of a bucket, see
            `tfzoo.data.few_shapes`, and the last batch of an epoch is left out unless it is full: a text cannot be told
            from one that is in the batch to fill it.

    Returns: a dataset of ({"token_ids", "padding_mask", "segment_ids"}, (2 B, T) int32 each; labels (2 B,) int32, the
        row of each text's partner; sample_weight (2 B,) float32, 1). Its cardinality is known.

    Raises:
        UsageError: a number out of its range, an unknown specification, or none.
        DataError: missing or malformed data.
    """
    import tensorflow as tf

    EncoderDataConfig(sequence_length=sequence_length, batch_size=batch_size, seed=seed)  # checks the numbers
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = mixture(specs)

    def records(spec: str) -> Iterator[tuple[str, ...]]:
        for pair in read(spec, fields=FIELDS):
            yield pair[:1]
            yield pair[1:]

    encoded = encode_texts(specs, records, tokenizer, sequence_length)
    num_pairs = len(encoded.origins) // 2
    if static_shapes and num_pairs < batch_size:
        raise DataError(
            f"`static_shapes` leaves out batches that are not full, and {num_pairs} pairs fill none; give more data or "
            f"a smaller `batch_size`; received batch_size={batch_size}."
        )

    def example(indices: tf.Tensor, epoch: tf.Tensor) -> TextPairsBatch:
        num_pairs = tf.size(indices)
        rows = tf.range(2 * num_pairs)
        inputs = encoded.inputs(tf.concat([2 * indices, 2 * indices + 1], axis=0))
        return inputs, (rows + num_pairs) % (2 * num_pairs), tf.ones(tf.shape(rows))

    batches = sorted_batches(
        example,
        np.max(encoded.lengths().reshape(-1, 2), axis=1),
        encoded.origins[::2],
        batch_size=batch_size,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        repeat=repeat,
        start_step=start_step,
        drop_remainder=static_shapes,
    )
    if not static_shapes:
        return batches
    return with_few_shapes(batches, num_rows=2 * batch_size, max_length=sequence_length, pad_id=tokenizer.pad_id)
