"""Entities and their scores against seqeval's, on random tags that break every rule."""

import random

import numpy as np
import pytest
import seqeval.metrics as seqeval
from seqeval.metrics.sequence_labeling import get_entities

from tfzoo.evaluation.entities import entities, has_entities, score_words

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B")


def _tags(generator, prefixes, length):
    return [
        "O" if generator.random() < 0.3 else f"{generator.choice(prefixes)}-{generator.choice(['PER', 'LOC', 'A-B'])}"
        for _ in range(length)
    ]


@pytest.mark.parametrize("prefixes", ["BI", "BIES", "I"])
def test_entities_are_those_of_seqeval(prefixes):
    generator = random.Random(prefixes)
    for _ in range(500):
        tags = _tags(generator, prefixes, generator.randrange(9))
        theirs = [(kind, first, last + 1) for kind, first, last in get_entities(tags)] if tags else []
        assert entities(tags) == theirs, tags


def test_the_example_of_the_docstring():
    assert entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]) == [("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5)]


def _sentences(seed, num_sentences=60):
    generator = random.Random(seed)
    labels = [_tags(generator, "BI", generator.randint(1, 12)) for _ in range(num_sentences)]
    answers = [
        [
            one if generator.random() < 0.8 else other
            for one, other in zip(row, _tags(generator, "BI", len(row)), strict=True)
        ]
        for row in labels
    ]
    return answers, labels


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_seqeval(seed):
    answers, labels = _sentences(seed)
    found = score_words(answers, labels, NAMES)
    expected = {
        "num_sentences": 60,
        "num_words": sum(map(len, labels)),
        "num_entities": sum(len(entities(row)) for row in labels),
        "word_accuracy": seqeval.accuracy_score(labels, answers),
        "precision": seqeval.precision_score(labels, answers),
        "recall": seqeval.recall_score(labels, answers),
        "f1": seqeval.f1_score(labels, answers),
        "f1_macro": seqeval.f1_score(labels, answers, average="macro"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    by_type = seqeval.classification_report(labels, answers, output_dict=True)
    for name, values in found["per_type"].items():
        assert list(values.values()) == pytest.approx(list(by_type[name].values()), abs=1e-12)
    assert set(found["per_type"]) == {"PER", "LOC", "A-B"}


def test_intervals_draw_whole_sentences():
    answers, labels = _sentences(7, 30)
    found = score_words(answers, labels, NAMES)
    draws = np.random.default_rng(0).integers(30, size=(1000, 30))
    values = [seqeval.f1_score([labels[i] for i in one], [answers[i] for i in one]) for one in draws[:200]]
    # Of fewer draws, so near the interval and not equal to it.
    assert found["f1_interval"] == pytest.approx(list(np.percentile(values, [2.5, 97.5])), abs=0.02)
    for name in ("word_accuracy", "f1_macro"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_labels_that_mark_no_entities_are_scored_by_the_word():
    found = score_words([["NOUN", "VERB"], ["NOUN"]], [["NOUN", "NOUN"], ["NOUN"]], ("NOUN", "VERB"))
    assert set(found) == {"num_sentences", "num_words", "word_accuracy", "word_accuracy_interval"}
    assert found["word_accuracy"] == pytest.approx(2 / 3)
    assert not has_entities(["O", "A-1", "B-1"])
    assert not has_entities(["O"])
    assert has_entities(["O", "I-X", "S-Y"])


def test_answers_without_any_entity():
    found = score_words([["O", "O"]], [["B-X", "O"]], ("O", "B-X"))
    assert (found["precision"], found["recall"], found["f1"], found["f1_macro"]) == (0, 0, 0, 0)
    assert found["per_type"] == {"X": {"precision": 0, "recall": 0, "f1": 0, "num_entities": 1}}
    found = score_words([["O"]], [["O"]], ("O", "B-X"))
    assert (found["f1"], found["num_entities"], found["per_type"]) == (0, 0, {})
