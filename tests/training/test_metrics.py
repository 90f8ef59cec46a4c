"""Means over tokens, whatever the lengths to which their batches were padded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.models import Transformer, TransformerConfig
from tfzoo.training.losses import CrossEntropy
from tfzoo.training.metrics import (
    Accuracy,
    LabelAccuracy,
    NatsPerToken,
    PartnerAccuracy,
    Pearson,
    TokenAccuracy,
    padding_measured,
)

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


@pytest.mark.parametrize("metric", [LabelAccuracy, PartnerAccuracy, Pearson])
def test_metrics_of_examples_are_serializable(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric("mine")))
    assert (type(again), again.name) == (metric, "mine")


@pytest.mark.parametrize("metric", [Accuracy, NatsPerToken, TokenAccuracy])
def test_serialization(metric, batches):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric()))
    assert type(again) is metric
    assert again.name == metric().name
    assert updated(again, batches) == updated(metric(), batches)


def test_label_accuracy_counts_every_decision():
    metric = LabelAccuracy()
    metric.update_state(np.array([[1.0, 0.0, 1.0]]), np.array([[2.0, -1.0, -3.0]]), np.array([1.0]))
    metric.update_state(np.array([[0.0, 0.0, 0.0]]), np.array([[2.0, 1.0, -3.0]]), np.array([3.0]))
    assert float(metric.result()) == pytest.approx((1 * 2 / 3 + 3 * 1 / 3) / 4)
    assert float(metric.count) == 4


def test_accuracy_takes_labels_of_any_rank():
    metric = Accuracy()
    metric.update_state(np.array([1, 0]), np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([1.0, 2.0]))
    assert float(metric.result()) == pytest.approx(1 / 3)
    metric.reset_state()
    metric.update_state(np.array([[2, 0]]), np.array([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]), np.ones((1, 2)))
    assert float(metric.result()) == 0.5


def test_partner_accuracy_looks_at_the_other_side_alone():
    """Text 0 is nearest to text 1, which is on its own side."""
    embeddings = np.array([[1.0, 0.0], [0.99, 0.14], [0.8, 0.6], [0.0, 1.0]], np.float32)
    metric = PartnerAccuracy()
    metric.update_state([2, 3, 0, 1], embeddings)
    # 0 -> 2 and 2 -> 1 (its partner is 0); 1 -> 2 (3) and 3 -> 1.
    assert float(metric.result()) == 0.5


def test_pearson_equals_numpy_over_batches_and_weights():
    generator = np.random.default_rng(7)
    labels = generator.normal(size=20) + 1000  # far from 0, where sums in float32 would lose the differences
    predictions = (0.3 * (labels - 1000) + generator.normal(size=20))[:, np.newaxis]
    weights = generator.integers(3, size=20).astype(np.float32)
    metric = Pearson()
    for begin, end in ((0, 7), (7, 20)):
        metric.update_state(labels[begin:end], predictions[begin:end], weights[begin:end])
    repeated = np.repeat(np.arange(20), weights.astype(int))
    expected = np.corrcoef(labels[repeated], predictions[repeated, 0])[0, 1]
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_pearson_of_what_does_not_vary_is_zero():
    metric = Pearson()
    assert float(metric.result()) == 0
    metric.update_state(np.array([1.0, 2.0]), np.array([[0.5], [0.5]]))
    assert float(metric.result()) == 0


def test_a_row_that_counts_for_nothing_is_padding(mirrored):
    share = keras.metrics.Mean()
    with mirrored.scope():
        model = keras.Sequential([keras.layers.Embedding(5, 3), keras.layers.Dense(5)])
        model.compile(keras.optimizers.SGD(0.1), CrossEntropy())
    mask = tf.constant([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]])
    weights = tf.constant([[1.0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    with padding_measured(model, share):
        for one, weight in zip(mask, weights, strict=True):
            rows = tf.ones((1, 3), tf.int32)
            model.compute_metrics({"padding_mask": one[tf.newaxis]}, rows, tf.ones((1, 3, 5)), weight[tf.newaxis])
    # One, none and two positions of three rows, and all three of the last.
    assert float(share.result()) == 6 / 12


def test_the_padding_of_a_source_counts_too():
    share = keras.metrics.Mean()
    config = TransformerConfig(
        vocabulary_size=5, num_layers=1, hidden_dim=4, num_heads=2, intermediate_dim=4, pad_id=2, start_id=0, end_id=1
    )
    model = Transformer(config)
    model.compile(keras.optimizers.SGD(0.1), CrossEntropy())
    source = tf.constant([[1, 3, 0, 4, 1], [1, 3, 2, 2, 2]])
    target = tf.constant([[1, 3, 0], [1, 2, 2]])
    weights = tf.constant([[1.0, 1, 1], [1, 0, 0]])
    with padding_measured(model, share):
        inputs = {"encoder_token_ids": source, "decoder_token_ids": target}
        model.compute_metrics(inputs, target, model(inputs), weights)
    assert float(share.result()) == (3 + 2) / (10 + 6)
