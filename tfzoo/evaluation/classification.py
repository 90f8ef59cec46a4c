"""Scores of classes and of numbers against those that are right.

The scores are scikit-learn's, to which its tests compare them. They are written here in NumPy, as functions of many
draws of the examples at once, since a thousand calls of scikit-learn for the intervals would take minutes; and it would
bring 200 MB with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfzoo.evaluation.bootstrap import count, with_intervals

_NUM_BINS = 15  # of confidence, as in Guo et al. (2017)
_THRESHOLD = 0.5


def score_single_label(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Scores a classifier of one label an example.

    Args:
        logits: (N, L) float.
        labels: (N,) int, those that are right.
        names: L names.

    Returns: `num_examples`; `loss` (nats); `accuracy`; `precision`, `recall` and `f1`, each _micro (over all examples,
        all three equal to the accuracy) and _macro (the mean over the classes that occur in labels or answers);
        `matthews` (Matthews, 1975; Gorodkin, 2004); `calibration_error` (expected, of the highest probability, in 15
        bins of equal width; Guo et al., 2017, https://arxiv.org/abs/1706.04599); `per_class`; and `confusion_matrix`,
        rows by the label that is right and columns by the answer. `accuracy`, `f1_macro` and `matthews` have a
        95 % interval.
    """
    log_probs = _log_softmax(logits)
    answers = log_probs.argmax(axis=1)
    is_right = answers == labels
    num_classes = len(names)
    cells = labels * num_classes + answers

    def statistic(draws: np.ndarray) -> Mapping[str, np.ndarray]:
        confusion = count(draws, cells, num_classes**2).reshape(-1, num_classes, num_classes)
        hits, answered, wanted = _marginals(confusion)
        return {
            "accuracy": hits.sum(axis=1) / len(labels),
            "f1_macro": _macro(_precision_recall_f1(hits, answered, wanted)[2], answered + wanted),
            "matthews": _matthews(hits, answered, wanted),
        }

    confusion = count(np.arange(len(labels))[np.newaxis], cells, num_classes**2).reshape(1, num_classes, num_classes)
    return {
        "num_examples": len(labels),
        "loss": float(-np.take_along_axis(log_probs, labels[:, np.newaxis], axis=1).mean()),
        **with_intervals(statistic, len(labels)),
        **_averages(*_marginals(confusion)),
        "calibration_error": _calibration_error(np.exp(log_probs.max(axis=1)), is_right),
        "per_class": _per_class(*_marginals(confusion), names),
        "confusion_matrix": confusion[0].tolist(),
    }


def score_multi_label(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Scores a classifier of any number of labels an example; an answer is a probability of at least one half.

    Args:
        logits: (N, L) float.
        labels: (N, L), 1 where a label is right.
        names: L names.

    Returns: `num_examples`; `loss` (nats, the mean over all decisions); `accuracy` (share of examples with all labels
        that are right, and no others); `precision`, `recall` and `f1`, each _micro and _macro; `calibration_error`
        (expected, of the probability of each label); `per_class`. `accuracy`, `f1_micro` and `f1_macro` have a 95 %
        interval.
    """
    logits = logits.astype(np.float64)
    probabilities = 0.5 + 0.5 * np.tanh(logits / 2)  # the sigmoid, without overflow
    answers = probabilities >= _THRESHOLD
    is_wanted = labels > 0.5
    is_exact = (answers == is_wanted).all(axis=1)

    def marginals(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = count(draws, np.arange(len(labels)), len(labels))
        hits, answered, wanted = (counts @ one.astype(np.int64) for one in (answers & is_wanted, answers, is_wanted))
        return hits, answered, wanted

    def statistic(draws: np.ndarray) -> Mapping[str, np.ndarray]:
        hits, answered, wanted = marginals(draws)
        total = (one.sum(axis=1) for one in (hits, answered, wanted))
        return {
            "accuracy": is_exact[draws].mean(axis=1),
            "f1_micro": _precision_recall_f1(*total)[2],
            "f1_macro": _macro(_precision_recall_f1(hits, answered, wanted)[2], answered + wanted),
        }

    whole = marginals(np.arange(len(labels))[np.newaxis])
    # log(1 + exp(x)) - x * label, without overflow
    losses = np.maximum(logits, 0) - logits * is_wanted + np.log1p(np.exp(-np.abs(logits)))
    return {
        "num_examples": len(labels),
        "loss": float(losses.mean()),
        **with_intervals(statistic, len(labels)),
        **_averages(*whole),
        "calibration_error": _calibration_error(probabilities.ravel(), is_wanted.ravel()),
        "per_class": _per_class(*whole, names),
    }


def score_regression(outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Scores numbers.

    Args:
        outputs: (N,) float.
        targets: (N,) float, those that are right.

    Returns: `num_examples`, `mean_squared_error`, and `pearson` and `spearman` correlation with a 95 % interval each;
        None where all outputs, or all targets, are the same.
    """
    outputs, targets = outputs.astype(np.float64), targets.astype(np.float64)
    return {
        "num_examples": len(targets),
        "mean_squared_error": float(np.mean((outputs - targets) ** 2)),
        **correlations(outputs, targets),
    }


def correlations(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Returns `pearson` and `spearman` of (N,) numbers each, with their intervals."""
    ranks = [np.unique(values, return_inverse=True)[1] for values in (x, y)]
    return with_intervals(
        lambda draws: {
            "pearson": _pearson(x[draws], y[draws]),
            "spearman": _pearson(_ranks(ranks[0], draws), _ranks(ranks[1], draws)),
        },
        len(x),
    )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _marginals(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (R, L) each: right answers, answers and right labels of each class."""
    return np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=1), confusion.sum(axis=2)


def _precision_recall_f1(
    hits: np.ndarray, answered: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each is 0 where it is not defined, as in scikit-learn."""
    return _share(hits, answered), _share(hits, wanted), _share(2 * hits, answered + wanted)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)


def _macro(values: np.ndarray, num_seen: np.ndarray) -> np.ndarray:
    """Returns (R,) means of (R, L) over the classes that occur."""
    return _share((values * (num_seen > 0)).sum(axis=1), (num_seen > 0).sum(axis=1))


def _matthews(hits: np.ndarray, answered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    total = wanted.sum(axis=1).astype(np.float64)
    covariance = hits.sum(axis=1) * total - (answered * wanted).sum(axis=1)
    scale = np.sqrt((total**2 - (answered**2).sum(axis=1)) * (total**2 - (wanted**2).sum(axis=1)))
    return _share(covariance, scale)


def _averages(hits: np.ndarray, answered: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    micro = _precision_recall_f1(*(one.sum(axis=1) for one in (hits, answered, wanted)))
    macro = (_macro(values, answered + wanted) for values in _precision_recall_f1(hits, answered, wanted))
    names = ("precision", "recall", "f1")
    return {f"{name}_micro": float(value[0]) for name, value in zip(names, micro, strict=True)} | {
        f"{name}_macro": float(value[0]) for name, value in zip(names, macro, strict=True)
    }


def _per_class(
    hits: np.ndarray, answered: np.ndarray, wanted: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    precision, recall, f1 = (one[0].tolist() for one in _precision_recall_f1(hits, answered, wanted))
    return {
        name: {"precision": precision[i], "recall": recall[i], "f1": f1[i], "num_examples": int(wanted[0, i])}
        for i, name in enumerate(names)
    }


def _calibration_error(confidences: np.ndarray, is_right: np.ndarray) -> float:
    """Returns how far, on the mean, the share of right answers of a bin is from its mean confidence."""
    bins = np.clip(np.ceil(confidences * _NUM_BINS).astype(int) - 1, 0, _NUM_BINS - 1)
    gaps = np.bincount(bins, weights=is_right - confidences, minlength=_NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the (R,) correlations of (R, N) numbers; NaN where all numbers of a side are the same."""
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), scale, out=np.full(len(x), np.nan), where=scale > 0)


def _ranks(order: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Returns the (R, N) ranks of drawn numbers, the mean rank where some are equal; `order` ranks them, ties alike."""
    counts = count(draws, order, int(order.max()) + 1)
    middle = np.cumsum(counts, axis=1) - (counts - 1) / 2
    return np.take_along_axis(middle, order[draws], axis=1)
