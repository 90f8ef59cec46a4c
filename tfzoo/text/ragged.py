"""Operations on ragged rows of text whose memory grows with what the rows hold, as TensorFlow's own does not."""

from __future__ import annotations

import tensorflow as tf


def kept(rows: tf.RaggedTensor, is_kept: tf.Tensor) -> tf.RaggedTensor:
    """As `tf.ragged.boolean_mask`, whose memory grows with the number of rows times the length of the longest.

    Args:
        rows: (B, None) of N values.
        is_kept: (N,) bool.

    Returns: (B, None), the values that are kept.
    """
    counts = tf.concat([[0], tf.cumsum(tf.cast(is_kept, tf.int64))], axis=0)
    values = tf.boolean_mask(rows.flat_values, is_kept)
    return tf.RaggedTensor.from_row_splits(values, tf.gather(counts, rows.row_splits), validate=False)


def kept_rows(rows: tf.RaggedTensor, is_kept: tf.Tensor) -> tf.RaggedTensor:
    """As `tf.ragged.boolean_mask` of whole rows, whose memory grows alike.

    Args:
        rows: (B, None).
        is_kept: (B,) bool.

    Returns: (K, None), the rows that are kept.
    """
    return tf.gather(rows, tf.where(is_kept)[:, 0])


def row_ids(rows: tf.RaggedTensor) -> tf.Tensor:
    """As `rows.value_rowids()`, whose memory, as that of `tf.repeat`, grows like that of `tf.ragged.boolean_mask`.

    Args:
        rows: (B, None) of N values.

    Returns: (N,) int64, the row of each value.
    """
    num_values = tf.size(rows.flat_values, tf.int64)
    starts = rows.row_splits[1:-1, tf.newaxis]  # of all rows but the first
    begun = tf.scatter_nd(starts, tf.ones_like(starts[:, 0]), [num_values + 1])
    return tf.cumsum(begun)[:-1]
