"""Sentences of labelled words to the batches that a classifier of words learns on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from tfzoo.data.batches import sorted_batches
from tfzoo.data.config import EncoderDataConfig
from tfzoo.data.corpus import chunks
from tfzoo.data.encoded import EncodedTexts
from tfzoo.data.examples import join_segments, join_words
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.data.labelled import LabelIndex, LabelledWords, read_words
from tfzoo.data.sources import mixture
from tfzoo.errors import UsageError
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

TokenClassificationBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]

_UNLABELLED = -1


def token_classification(
    specs: str | Sequence[str],
    tokenizer: WordPieceTokenizer,
    *,
    labels: Sequence[str],
    sequence_length: int = 128,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Returns batches of sentences; the label of a word is that of its first piece, and its other pieces have none.

    This is how BERT was fine-tuned for named entities (Devlin et al., 2019, section 5.3). Sentences of similar length
    share a batch, and every batch but the last of an epoch is full; all are read and tokenized in this call. The order
    is a function of `seed` and the epoch alone. With [CLS] = 2, [SEP] = 3, "a" = 5, "c" = 7, "##b" = 16 and
    labels=("O", "B-X"), the words ab, labelled B-X, and c, labelled O, give

        token_ids     [[2, 5, 16, 7, 3]]
        labels        [[0, 1, 0, 0, 0]]
        sample_weight [[0, 1, 0, 1, 0]]

    Args:
        specs: one data specification or several, see `tfzoo.data.labelled`. Several are concatenated; if one has a
            weight ("conll:news.conll@0.3"), they are mixed by their weights, 1 where none is given.
        tokenizer: gives the ids.
        labels: names by index, as `tfzoo.data.word_labels` reads them off the training data.
        sequence_length: most tokens of a sentence, [CLS] and [SEP] included; longer ones are cut, and the words that
            they lose are counted in the log.
        batch_size: B.
        shuffle: False = as they stand in the files, but sorted by length some batches at a time.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True = batches of few shapes, for XLA and TPU: T is the end of a bucket, and the last batch has B
            rows too, some of which weigh nothing; see `tfzoo.data.few_shapes`.

    Returns: a dataset of ({"token_ids", "padding_mask", "segment_ids"}, labels, (B, T) int32 each; sample_weight (B, T)
        float32, 1 for the first piece of a word). Its cardinality is known.

    Raises:
        UsageError: a number out of its range, an unknown specification, or none; no labels.
        DataError: missing or malformed data, or a label that is not in `labels`.
    """
    import tensorflow as tf

    EncoderDataConfig(sequence_length=sequence_length, batch_size=batch_size, seed=seed)  # checks the numbers
    if not labels:
        raise UsageError("`labels` is empty; read them off the training data with `tfzoo.data.word_labels`.")
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = mixture(specs)
    encoded, indices_of_labels = _encode(specs, LabelIndex(labels), tokenizer, sequence_length)

    def example(indices: tf.Tensor, epoch: tf.Tensor) -> TokenClassificationBatch:
        found = tf.gather(indices_of_labels, indices).to_tensor(_UNLABELLED)
        return encoded.inputs(indices), tf.maximum(found, 0), tf.cast(found != _UNLABELLED, tf.float32)

    batches = sorted_batches(
        example,
        encoded.lengths(),
        encoded.origins,
        batch_size=batch_size,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        repeat=repeat,
        start_step=start_step,
    )
    if not static_shapes:
        return batches
    return with_few_shapes(
        batches, num_rows=batch_size, max_length=sequence_length, pad_id=tokenizer.pad_id, label_pad_id=0
    )


def _encode(
    specs: Sequence[str], index_of: LabelIndex, tokenizer: WordPieceTokenizer, sequence_length: int
) -> tuple[EncodedTexts, tf.RaggedTensor]:
    """Reads and tokenizes all sentences, and gives each of their tokens the index of its label, or `_UNLABELLED`."""
    import tensorflow as tf

    values, labels, row_lengths, num_of_spec = [], [], [], []
    for spec in specs:
        num_read = num_lost = num_words = 0
        for chunk in chunks(_labelled_words(spec, index_of)):
            words = tf.ragged.constant([one for one, _ in chunk], tf.string, row_splits_dtype=tf.int64)
            ids, positions = join_words(words, tokenizer, sequence_length)
            ids, _ = join_segments(ids, None, tokenizer, sequence_length)
            starts = tf.gather(ids.row_starts(), words.value_rowids()).numpy()
            places = positions.flat_values.numpy()
            found = np.full(ids.flat_values.shape[0], _UNLABELLED, np.int32)
            of_words = np.concatenate([indices for _, indices in chunk])
            found[(starts + places)[places >= 0]] = of_words[places >= 0]
            values.append(ids.flat_values.numpy())
            labels.append(found)
            row_lengths.append(ids.row_lengths().numpy())
            num_read += len(chunk)
            num_words += len(places)
            num_lost += int((places < 0).sum())
        logging.info(
            "%s: %d sentences of %d words; %d words have no token within sequence_length=%d.",
            *(spec, num_read, num_words, num_lost, sequence_length),
        )
        num_of_spec.append(num_read)
    lengths = np.concatenate(row_lengths)
    with tf.device("CPU"):  # a tf.data pipeline runs there
        token_ids = tf.RaggedTensor.from_row_lengths(np.concatenate(values), lengths, validate=False)
        origins = np.repeat(np.arange(len(specs)), num_of_spec)
        encoded = EncodedTexts(token_ids, tf.constant(lengths, tf.int64), origins, tokenizer.pad_id)
        return encoded, token_ids.with_flat_values(tf.constant(np.concatenate(labels)))


def _labelled_words(spec: str, index_of: LabelIndex) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    def indices(one: LabelledWords) -> list[int]:
        return [index_of(label, place) for label, place in zip(one.labels, one.places, strict=True)]

    return ((one.words, indices(one)) for one in read_words(spec))
