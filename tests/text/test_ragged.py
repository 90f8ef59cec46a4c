"""The ragged operations: what TensorFlow's own answer, in memory for what the rows hold."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.text.ragged import kept, kept_rows, row_ids


def rows_of(lengths):
    return tf.RaggedTensor.from_row_lengths(tf.range(sum(lengths)), tf.constant(lengths, tf.int64))


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [3], [2, 0, 1], [0, 4, 0, 0, 2, 0]], ids=str)
def test_they_answer_as_tensorflow_does(lengths):
    rows = rows_of(lengths)
    is_kept = rows.flat_values % 3 != 1
    found, expected = kept(rows, is_kept), tf.ragged.boolean_mask(rows, rows.with_flat_values(is_kept))
    assert found.to_list() == expected.to_list()
    is_kept = tf.range(len(lengths)) % 2 == 0
    assert kept_rows(rows, is_kept).to_list() == tf.ragged.boolean_mask(rows, is_kept).to_list()
    assert row_ids(rows).dtype == tf.int64
    np.testing.assert_array_equal(row_ids(rows), rows.value_rowids())


def test_a_long_row_beside_many_takes_memory_for_what_they_hold():
    rows = rows_of([1] * 300_000 + [300_000])  # 90 GB for a byte of each place up to the longest
    np.testing.assert_array_equal(row_ids(rows), np.minimum(np.arange(600_000), 300_000))
    found = kept(rows, rows.flat_values % 2 == 0)
    assert found.flat_values.shape == (300_000,)
    np.testing.assert_array_equal(found.row_lengths(), [1, 0] * 150_000 + [150_000])
    found = kept_rows(rows, rows.row_lengths() > 1)
    np.testing.assert_array_equal(found.row_lengths(), [300_000])
