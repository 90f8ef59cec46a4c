"""The docstrings' numeric examples."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.data import encode_source, seq2seq_example
from tfzoo.text import SymbolTokenizer


@pytest.fixture(scope="module")
def letters():
    return SymbolTokenizer("abcdef", "")


def test_a_long_source_loses_its_tail_but_not_its_end(letters):
    ids = encode_source(tf.constant(["ab", "abc", ""]), letters, 3)
    assert ids.to_list() == [[4, 5, 3], [4, 5, 3], [3]]
    assert ids.dtype == tf.int32


def test_a_source_works_in_a_graph_of_unknown_batch(letters):
    served = tf.function(
        lambda strings: encode_source(strings, letters, 4), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    assert served(tf.constant(["abcdef"])).to_list() == [[4, 5, 6, 3]]
    assert served(tf.constant([], tf.string)).to_list() == []


def test_the_target_is_shifted_and_rows_are_padded():
    inputs, labels, sample_weight = seq2seq_example(
        tf.ragged.constant([[4, 5, 3], [6, 3]], dtype=tf.int32), tf.ragged.constant([[7], [8, 9]], dtype=tf.int32)
    )
    assert list(inputs) == ["encoder_token_ids", "decoder_token_ids"]
    np.testing.assert_array_equal(inputs["encoder_token_ids"], [[4, 5, 3], [6, 3, 0]])
    np.testing.assert_array_equal(inputs["decoder_token_ids"], [[2, 7, 0], [2, 8, 9]])
    np.testing.assert_array_equal(labels, [[7, 3, 0], [8, 9, 3]])
    np.testing.assert_array_equal(sample_weight, [[1, 1, 0], [1, 1, 1]])
    assert {one.dtype for one in (*inputs.values(), labels)} == {tf.int32}
    assert sample_weight.dtype == tf.float32


def test_lengths_can_be_given():
    inputs, labels, sample_weight = seq2seq_example(
        tf.ragged.constant([[4, 3]], dtype=tf.int32),
        tf.ragged.constant([[7]], dtype=tf.int32),
        source_length=tf.constant(5),
        target_length=4,
    )
    np.testing.assert_array_equal(inputs["encoder_token_ids"], [[4, 3, 0, 0, 0]])
    np.testing.assert_array_equal(inputs["decoder_token_ids"], [[2, 7, 0, 0]])
    np.testing.assert_array_equal(labels, [[7, 3, 0, 0]])
    np.testing.assert_array_equal(sample_weight, [[1, 1, 0, 0]])


def test_a_target_that_holds_the_padding_id_still_counts():
    _, _, sample_weight = seq2seq_example(
        tf.ragged.constant([[3]], dtype=tf.int32), tf.ragged.constant([[0, 7]], dtype=tf.int32)
    )
    np.testing.assert_array_equal(sample_weight, [[1, 1, 1]])
