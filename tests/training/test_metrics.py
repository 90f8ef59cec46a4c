"""Means over tokens, whatever the lengths to which their batches were padded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.training.metrics import NatsPerToken, TokenAccuracy

VOCABULARY = 37


@pytest.fixture
def batches():
    """Two batches of labels, logits and weights: 2 sequences of 3 and 3 tokens, and of 11 and 4."""
    generator = np.random.default_rng(3)
    pairs = []
    for lengths in ([3, 3], [11, 4]):
        shape = (2, max(lengths))
        labels = generator.integers(VOCABULARY, size=shape).astype(np.int32)
        logits = (generator.normal(size=(*shape, VOCABULARY)) + len(pairs)).astype(np.float32)
        logits[..., 0] += 6 * len(pairs)
        weights = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.float32)
        pairs.append((labels, logits, weights))
    return pairs


def numpy_means(batches):
    """Nats and accuracy over the list of all real tokens."""
    nats, hits = [], []
    for labels, logits, weights in batches:
        for label, logit in zip(labels[weights > 0], logits[weights > 0].astype(np.float64), strict=True):
            nats.append(np.log(np.exp(logit).sum()) - logit[label])
            hits.append(logit.argmax() == label)
    return np.mean(nats), np.mean(hits)


def updated(metric, batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_equal_numpy_where_keras_does_not(batches):
    nats, accuracy = numpy_means(batches)
    metric = NatsPerToken()
    assert updated(metric, batches) == pytest.approx(nats, rel=tolerance("numpy_loss"))
    assert float(metric.count) == 21
    assert updated(TokenAccuracy(), batches) == pytest.approx(accuracy, rel=tolerance("numpy_loss"))
    assert abs(updated(keras.metrics.SparseCategoricalCrossentropy(from_logits=True), batches) - nats) > 0.1


def test_without_weights_all_tokens_count(batches):
    ones = [(labels, logits, np.ones_like(weights)) for labels, logits, weights in batches]
    unweighted = [(labels, logits) for labels, logits, _ in batches]
    for metric in (NatsPerToken, TokenAccuracy):
        assert updated(metric(), unweighted) == updated(metric(), ones)


def test_keras_mask_counts_as_padding(batches):
    labels, logits, weights = batches[1]
    masked = tf.constant(logits)
    masked._keras_mask = tf.constant(weights) > 0
    assert updated(NatsPerToken(), [(labels, masked)]) == updated(NatsPerToken(), [(labels, logits, weights)])


@pytest.mark.parametrize("metric", [NatsPerToken, TokenAccuracy])
def test_serialization(metric, batches):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric()))
    assert type(again) is metric
    assert again.name == metric().name
    assert updated(again, batches) == updated(metric(), batches)
