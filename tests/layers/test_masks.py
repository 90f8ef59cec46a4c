"""Masks: the docstrings' examples, literally."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.masks import causal_mask, padding_mask_to_attention_mask


def test_causal_mask_example():
    mask = causal_mask(2, 1)
    assert mask.shape == (1, 1, 2, 3)
    assert mask.dtype == tf.bool
    assert mask[0, 0].numpy().tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(("num_queries", "num_past"), [(1, 0), (1, 4), (5, 0), (3, 2)])
def test_a_query_sees_the_past_and_itself(num_queries, num_past):
    mask = causal_mask(num_queries, num_past)[0, 0].numpy()
    assert mask.shape == (num_queries, num_past + num_queries)
    for query in range(num_queries):
        assert np.flatnonzero(mask[query]).tolist() == list(range(num_past + query + 1))


def test_causal_mask_of_lengths_known_only_in_the_graph():
    mask = tf.function(lambda queries, past: causal_mask(queries, past))(tf.constant(2), tf.constant(1))
    assert np.array_equal(mask, causal_mask(2, 1))


def test_padding_mask_is_the_same_for_each_head_and_query():
    mask = padding_mask_to_attention_mask(np.array([[1, 1, 0], [1, 0, 0]], np.int32))
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].numpy().tolist() == [[True, True, False], [True, False, False]]
