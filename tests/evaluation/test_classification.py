"""Scores of classes and numbers against scikit-learn's and SciPy's, on random and on awkward data."""

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from tfzoo.evaluation.classification import score_multi_label, score_regression, score_single_label

NAMES = ("red", "green", "blue", "black")


def _random(seed, num_examples=97, num_classes=4):
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_examples)
    logits = generator.normal(size=(num_examples, num_classes)).astype(np.float32)
    logits[np.arange(num_examples), labels] += 1
    return logits, labels


@pytest.mark.parametrize("seed", range(5))
def test_one_label_is_scored_as_by_scikit_learn(seed):
    logits, labels = _random(seed)
    if seed:
        labels[labels == seed] = 0  # so that a class is missing
    answers = logits.argmax(axis=1)
    found = score_single_label(logits, labels, NAMES)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    expected = {
        "num_examples": 97,
        "loss": metrics.log_loss(labels, probabilities, labels=range(4)),
        "accuracy": metrics.accuracy_score(labels, answers),
        "matthews": metrics.matthews_corrcoef(labels, answers),
    }
    for average in ("micro", "macro"):
        scores = metrics.precision_recall_fscore_support(labels, answers, average=average, zero_division=0)
        expected |= {
            f"{name}_{average}": value for name, value in zip(("precision", "recall", "f1"), scores, strict=False)
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(found["confusion_matrix"], metrics.confusion_matrix(labels, answers, labels=range(4)))
    columns = metrics.precision_recall_fscore_support(labels, answers, labels=range(4), zero_division=0)
    for index, name in enumerate(NAMES):
        values = [column[index] for column in columns]
        assert list(found["per_class"][name].values()) == pytest.approx(values, abs=1e-12)
    for name in ("accuracy", "f1_macro", "matthews"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_a_class_that_is_nowhere_does_not_count_in_a_mean():
    logits = np.eye(4)[[0, 1, 1]]
    found = score_single_label(logits, np.array([0, 1, 0]), NAMES)
    assert found["f1_macro"] == metrics.f1_score([0, 1, 0], [0, 1, 1], average="macro")
    assert found["per_class"]["black"] == {"precision": 0, "recall": 0, "f1": 0, "num_examples": 0}


def test_intervals_are_of_the_score_itself():
    """Draws by hand: the statistic of many draws at once equals scikit-learn's of each."""
    logits, labels = _random(7, 40)
    answers = logits.argmax(axis=1)
    generator = np.random.default_rng(0)
    draws = generator.integers(40, size=(1000, 40))
    for name, function in (
        ("f1_macro", lambda one: metrics.f1_score(labels[one], answers[one], average="macro", zero_division=0)),
        ("matthews", lambda one: metrics.matthews_corrcoef(labels[one], answers[one])),
    ):
        values = [function(one) for one in draws]
        assert score_single_label(logits, labels, NAMES)[f"{name}_interval"] == pytest.approx(
            list(np.percentile(values, [2.5, 97.5])), abs=1e-12
        )


def test_a_classifier_that_always_says_the_same():
    found = score_single_label(np.eye(4)[[2] * 5], np.array([2, 2, 2, 2, 1]), NAMES)
    assert found["matthews"] == metrics.matthews_corrcoef([2, 2, 2, 2, 1], [2] * 5) == 0
    assert found["accuracy"] == 0.8


def test_calibration_by_hand():
    def logits(probability):
        return [np.log(probability), np.log(1 - probability), -1e9, -1e9]

    # Two bins of fifteenths: 0.6 to 0.667 with one of two right, 0.933 to 1 with two of two right.
    found = score_single_label(
        np.array([logits(0.62), logits(0.64), logits(0.95), logits(0.99)]), np.array([0, 1, 0, 0]), NAMES
    )
    assert found["calibration_error"] == pytest.approx((abs(1 - 0.62 - 0.64) + abs(2 - 0.95 - 0.99)) / 4, rel=1e-6)
    # Two bins again, 0 to 0.067 and from there to 0.133; each has one probability, and one of the two labels is right.
    probabilities = np.array([[0.03, 0.1]])
    found = score_multi_label(np.log(probabilities / (1 - probabilities)), np.array([[1, 0]]), NAMES[:2])
    assert found["calibration_error"] == pytest.approx((0.97 + 0.1) / 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_several_labels_are_scored_as_by_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    labels = (generator.random((97, 4)) < 0.3).astype(np.float32)
    logits = (generator.normal(size=(97, 4)) + labels - 0.5).astype(np.float32)
    answers = logits >= 0
    found = score_multi_label(logits, labels, NAMES)
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    expected = {
        "num_examples": 97,
        "loss": np.mean([metrics.log_loss(labels[:, i], probabilities[:, i]) for i in range(4)]),
        "accuracy": metrics.accuracy_score(labels, answers),
    }
    for average in ("micro", "macro"):
        scores = metrics.precision_recall_fscore_support(labels, answers, average=average, zero_division=0)
        expected |= {
            f"{name}_{average}": value for name, value in zip(("precision", "recall", "f1"), scores, strict=False)
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    columns = metrics.precision_recall_fscore_support(labels, answers, zero_division=0)
    for index, name in enumerate(NAMES):
        assert list(found["per_class"][name].values()) == pytest.approx(
            [column[index] for column in columns], abs=1e-12
        )
    for name in ("accuracy", "f1_micro", "f1_macro"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_large_logits_do_not_overflow():
    found = score_multi_label(np.array([[1e4, -1e4, -1e4, 1e4]]), np.array([[1, 0, 1, 0]]), NAMES)
    assert found["loss"] == 5000
    assert found["calibration_error"] == 0.5
    found = score_single_label(np.array([[1e4, -1e4, 0, 0]]), np.array([1]), NAMES)
    assert found["loss"] == 20_000


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_scored_as_by_scipy(seed):
    generator = np.random.default_rng(seed)
    targets = generator.integers(6, size=80).astype(np.float32)  # with ties
    outputs = (targets + generator.normal(size=80)).round(1 + seed).astype(np.float32)
    found = score_regression(outputs, targets)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(outputs.astype(float), targets).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(outputs, targets).statistic, abs=1e-12)
    assert found["mean_squared_error"] == pytest.approx(
        metrics.mean_squared_error(targets.astype(float), outputs.astype(float)), rel=1e-12
    )
    draws = np.random.default_rng(0).integers(80, size=(1000, 80))
    values = [scipy.stats.spearmanr(outputs[one], targets[one]).statistic for one in draws]
    assert found["spearman_interval"] == pytest.approx(list(np.percentile(values, [2.5, 97.5])), abs=1e-12)


def test_a_correlation_with_a_constant_is_none():
    found = score_regression(np.ones(5), np.arange(5.0))
    assert found["pearson"] is found["spearman"] is found["pearson_interval"] is None
    assert found["mean_squared_error"] == 3
