"""Scores of labelled words: word by word, and entity by entity as the CoNLL shared tasks count.

An entity is right when its type, its first and its last word are (Tjong Kim Sang & De Meulder, 2003, section 4). The
scores are those of the script conlleval, and of the package seqeval in its usual mode, to which the tests compare them;
that package brings scikit-learn with it and has no intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfzoo.evaluation.bootstrap import count, with_intervals

Entity = tuple[str, int, int]
"""Type, first word, and the word behind the last one."""

_OUTSIDE = "O"
_PREFIXES = ("B", "I", "E", "S")


def has_entities(labels: Sequence[str]) -> bool:
    """Returns whether labels mark entities: "O", and at least one such as "B-PER"; all others begin alike."""
    tags = [label for label in labels if label != _OUTSIDE]
    return any(label.startswith(("B-", "I-")) for label in tags) and all(
        label.partition("-")[0] in _PREFIXES and "-" in label for label in tags
    )


def entities(labels: Sequence[str]) -> list[Entity]:
    """Returns the entities of a sentence, by their last word.

    B begins one and S is one; E and S end it. I and E go on with what stands before them when it is of their type and
    has not ended, and begin one else, as where IOB1 has no B.

    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    found: list[Entity] = []
    kind, start = "", -1  # of what is open
    for place, label in enumerate((*labels, _OUTSIDE)):
        prefix, _, other = label.partition("-")
        goes_on = start >= 0 and prefix in ("I", "E") and other == kind
        if start >= 0 and not goes_on:
            found.append((kind, start, place))
            start = -1
        if label != _OUTSIDE and not goes_on:
            kind, start = other, place
        if prefix in ("E", "S") and start >= 0:
            found.append((kind, start, place + 1))
            start = -1
    return found


def score_words(
    answers: Sequence[Sequence[str]], labels: Sequence[Sequence[str]], names: Sequence[str]
) -> dict[str, Any]:
    """Scores the labels of the words of sentences.

    Args:
        answers: a label for each word of each sentence.
        labels: those that are right.
        names: all labels there are, which tell whether they mark entities.

    Returns: `num_sentences`, `num_words`, `word_accuracy`; where the labels mark entities also `num_entities`,
        `precision`, `recall` and `f1` over all entities, `f1_macro` (the mean over types) and `per_type`.
        `word_accuracy`, `f1` and `f1_macro` have a 95 % interval, for which whole sentences are drawn.
    """
    num_words = np.array([len(sentence) for sentence in labels])
    num_right = np.array([sum(map(str.__eq__, ours, theirs)) for ours, theirs in zip(answers, labels, strict=True)])
    scores: dict[str, Any] = {"num_sentences": len(labels), "num_words": int(num_words.sum())}
    if not has_entities(names):
        return scores | with_intervals(
            lambda draws: {"word_accuracy": num_right[draws].sum(axis=1) / num_words[draws].sum(axis=1)}, len(labels)
        )

    found = [(set(entities(ours)), set(entities(theirs))) for ours, theirs in zip(answers, labels, strict=True)]
    types = sorted({entity[0] for both in found for side in both for entity in side})
    counts = np.zeros((len(labels), 3, len(types)), np.int64)  # of hits, answers and right entities
    for row, (ours, theirs) in zip(counts, found, strict=True):
        for index, side in enumerate((ours & theirs, ours, theirs)):
            for entity in side:
                row[index, types.index(entity[0])] += 1

    def statistic(draws: np.ndarray) -> Mapping[str, np.ndarray]:
        drawn = count(draws, np.arange(len(labels)), len(labels))
        by_type = (drawn @ counts.reshape(len(labels), 3 * len(types))).reshape(len(draws), 3, len(types))
        return {
            "word_accuracy": num_right[draws].sum(axis=1) / num_words[draws].sum(axis=1),
            "f1": _f1(by_type.sum(axis=2)),
            "f1_macro": _macro_f1(by_type),
        }

    whole = counts.sum(axis=0)
    hits, answered, wanted = whole.sum(axis=1).tolist()
    return (
        scores
        | with_intervals(statistic, len(labels))
        | {
            "num_entities": wanted,
            "precision": hits / answered if answered else 0.0,
            "recall": hits / wanted if wanted else 0.0,
            "per_type": {name: _of_type(*whole[:, index].tolist()) for index, name in enumerate(types)},
        }
    )


def _of_type(hits: int, answered: int, wanted: int) -> dict[str, float]:
    return {
        "precision": hits / answered if answered else 0.0,
        "recall": hits / wanted if wanted else 0.0,
        "f1": 2 * hits / (answered + wanted),
        "num_entities": wanted,
    }


def _f1(counts: np.ndarray) -> np.ndarray:
    """Returns the F1 of (R, 3, ...) hits, answers and right entities, 0 where there are none."""
    total = counts[:, 1] + counts[:, 2]
    return np.divide(2 * counts[:, 0], total, out=np.zeros(total.shape), where=total > 0)


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    is_seen = (counts[:, 1] + counts[:, 2]) > 0
    num_seen = is_seen.sum(axis=1)
    return np.divide(_f1(counts).sum(axis=1), num_seen, out=np.zeros(len(counts)), where=num_seen > 0)
