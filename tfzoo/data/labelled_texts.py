"""Texts with labels to the batches that a classifier learns on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfzoo.data.batches import sorted_batches
from tfzoo.data.config import ClassificationDataConfig
from tfzoo.data.encoded import encode_texts
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.data.labelled import LabelIndex, LabelledText, number, read_labelled
from tfzoo.data.sources import mixture
from tfzoo.errors import UsageError
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

ClassificationBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]


def classification(
    specs: str | Sequence[str],
    tokenizer: WordPieceTokenizer,
    *,
    labels: Sequence[str] = (),
    num_texts: int = 1,
    problem: str = "single_label",
    sequence_length: int = 128,
    batch_size: int = 32,
    label_separator: str = ",",
    class_weights: bool = False,
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Returns batches of texts, or pairs of texts, with their labels; all are read and tokenized in this call.

    Texts of similar length share a batch, and every batch but the last of an epoch is full. The order is a function of
    `seed` and the epoch alone. With [CLS] = 2, [SEP] = 3, "a" = 5, "b" = 6, the lines a<TAB>x and a b<TAB>y give

        token_ids [[2, 5, 3, 0], [2, 5, 6, 3]], padding_mask [[1, 1, 1, 0], [1, 1, 1, 1]], segment_ids 0
        labels    [0, 1] for labels=("x", "y"); "multi_label" [[1, 0], [0, 1]]

    Args:
        specs: one data specification or several, see `tfzoo.data.labelled`. Several are concatenated; if one has a
            weight ("tsv:reviews.tsv@0.3"), they are mixed by their weights, 1 where none is given.
        tokenizer: gives the ids.
        labels: names by index, as `tfzoo.data.text_labels` reads them off the training data; none for "regression".
        num_texts: 1 or 2.
        problem: "single_label", "multi_label" or "regression".
        sequence_length: most tokens of an input; longer texts are cut, see `tfzoo.data.encode_segments`, and counted
            in the log.
        batch_size: B.
        label_separator: text between the labels of a "multi_label" line of TSV.
        class_weights: True = an example weighs N / (number of labels * examples with its label), so that each class
            weighs as much as every other.
        shuffle: False = as they stand in the files, but sorted by length some batches at a time.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True = batches of few shapes, for XLA and TPU: T is the end of a bucket, and the last batch has B
            rows too, some of which weigh nothing; see `tfzoo.data.few_shapes`.

    Returns: a dataset of ({"token_ids", "padding_mask", "segment_ids"}, (B, T) int32 each; labels (B,) int32, for
        "multi_label" (B, L) float32 and for "regression" (B,) float32; sample_weight (B,) float32). Its cardinality is
        known.

    Raises:
        UsageError: a number out of its range, an unknown specification or none, or options that exclude each other.
        DataError: missing or malformed data, or a label that is not in `labels`.
    """
    import tensorflow as tf

    ClassificationDataConfig(  # checks the numbers
        sequence_length=sequence_length, batch_size=batch_size, label_separator=label_separator, seed=seed
    )
    if class_weights and problem != "single_label":
        raise UsageError(f"`class_weights` needs one label an example; received problem={problem!r}.")
    if not labels and problem != "regression":
        raise UsageError("`labels` is empty; read them off the training data with `tfzoo.data.text_labels`.")
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = mixture(specs)
    value_of = _value_of(labels, problem)
    values: list[Any] = []

    def records(spec: str) -> Iterator[tuple[str, ...]]:
        for one in read_labelled(spec, num_texts, problem, label_separator):
            values.append(value_of(one))
            yield one.texts

    encoded = encode_texts(specs, records, tokenizer, sequence_length)
    weight_of_label = np.ones(len(labels), np.float32)
    if class_weights:
        counts = np.bincount(values, minlength=len(labels))
        weight_of_label = (len(values) / (len(labels) * np.maximum(counts, 1))).astype(np.float32)
    with tf.device("CPU"):  # a tf.data pipeline runs there
        targets = (
            tf.ragged.constant(values, tf.int32, ragged_rank=1, row_splits_dtype=tf.int64)
            if problem == "multi_label"
            else tf.constant(values, tf.int32 if problem == "single_label" else tf.float32)
        )

    def example(indices: tf.Tensor, epoch: tf.Tensor) -> ClassificationBatch:
        target = tf.gather(targets, indices)
        sample_weight = tf.ones(tf.shape(indices))
        if problem == "single_label":
            sample_weight = tf.gather(tf.constant(weight_of_label), target)
        elif problem == "multi_label":
            target = tf.reduce_sum(tf.one_hot(target.to_tensor(-1), len(labels)), axis=1)
        return encoded.inputs(indices), target, sample_weight

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
    return with_few_shapes(batches, num_rows=batch_size, max_length=sequence_length, pad_id=tokenizer.pad_id)


def _value_of(labels: Sequence[str], problem: str) -> Callable[[LabelledText], Any]:
    """Returns a function that gives the index of an example's label, the indices of its labels, or its number."""
    index_of = LabelIndex(labels)
    if problem == "regression":
        return number
    if problem == "multi_label":
        return lambda one: [index_of(label, one.place) for label in one.labels]
    return lambda one: index_of(one.labels[0], one.place)
