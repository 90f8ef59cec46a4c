"""Scores of answers, against examples that were computed by hand from the official scripts' definitions."""

import dataclasses
import doctest
import json
import math

import numpy as np
import pytest

from tests.data.test_questions import SPECIAL, squad
from tests.runtime.spans import TableModel
from tfzoo import text
from tfzoo.data import squad as squad_data
from tfzoo.data.squad import Question
from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import DataError
from tfzoo.evaluation import squad as scores
from tfzoo.evaluation.squad import evaluate_question_answering, exact_match, f1, normalized, score_answers
from tfzoo.runtime.question_answering import Answer, answers


def question(*texts):
    return Question("q", "?", "", tuple(squad_data.Answer(one, 0) for one in texts))


def answer(output, margin=-1.0):
    return Answer(output, 0.5, 0 if output else -1, len(output) if output else -1, margin)


def test_the_docstrings_examples():
    assert doctest.testmod(scores).failed == 0


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("The U.S.A. -- and A\tdog", "usa and dog"),
        ("an-other theatre a", "another theatre"),
        ("Ünï’s “the” café!", "ünï’s “ ” café"),
        ("a.n", ""),  # punctuation goes first
        ("1,000 $", "1000"),
        ("", ""),
    ],
)
def test_texts_are_compared_without_case_punctuation_and_articles(string, expected):
    assert normalized(string) == expected


@pytest.mark.parametrize(
    ("output", "reference", "exact", "shared"),
    [
        ("The Normans", "normans!", 1, 1),
        ("in Normandy, France", "Normandy", 0, 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("big big dog", "big dog dog", 0, 2 / 3),  # each word counts as often as both have it
        ("big big dog", "big big cow", 0, 2 / 3),
        ("cat", "dog", 0, 0),
        ("", "dog", 0, 0),
        ("the", "", 1, 1),
        ("dog", "", 0, 0),
    ],
)
def test_scores_of_one_answer(output, reference, exact, shared):
    assert exact_match(output, reference) == exact
    assert f1(output, reference) == pytest.approx(shared)


def test_the_closest_right_answer_counts():
    found = score_answers(
        [question("Denmark", "the north of Denmark"), question("10th", "in the 10th century")],
        [answer("north Denmark"), answer("10th")],
        None,
    )
    # Of the first, 2 of 2 words shared with 3: 4 / 5.
    assert (found["num_questions"], found["exact_match"], found["f1"]) == (2, 0.5, pytest.approx((0.8 + 1) / 2))
    # Of two questions a quarter of the draws has the first one twice, and a quarter the second.
    assert (found["exact_match_interval"], found["f1_interval"]) == ([0, 1], pytest.approx([0.8, 1]))
    assert len(found) == 5


def test_a_right_answer_of_articles_and_punctuation_alone_counts_as_none():
    for texts, output, exact in ((("the", "dog"), "the", 0), (("the",), "a", 1), (("the",), "dog", 0)):
        assert score_answers([question(*texts)], [answer(output)], None)["exact_match"] == exact


QUESTIONS = [question("a dog"), question(), question("cat", "mouse"), question(), question("the horse and cow")]
FOUND = [
    answer("dog", -5.0),
    answer("fish", -2.0),
    answer("rat", -1.0),
    answer("bird", 3.0),
    answer("horse", 2.0),
]


def test_unanswerable_questions_are_scored_apart():
    # Answered are the first three: right, wrong, wrong. None is given to the fourth, rightly, and to the last, wrongly.
    found = score_answers(QUESTIONS, FOUND, 0.0)
    assert found["exact_match"] == found["f1"] == pytest.approx(2 / 5)
    assert found["has_answer_exact_match"] == found["has_answer_f1"] == pytest.approx(1 / 3)
    assert found["no_answer_accuracy"] == pytest.approx(1 / 2)
    # By how many are answered, from none to all, exactly right are 2, 3, 2, 2, 2 and 1.
    assert (found["best_exact_match"], found["best_exact_match_threshold"]) == (pytest.approx(3 / 5), -5.0)
    # The last one's F1 is 2 * 1 / (1 + 3) = 0.5: 2, 3, 2, 2, 2.5 and 1.5.
    assert (found["best_f1"], found["best_f1_threshold"]) == (pytest.approx(3 / 5), -5.0)
    names = [f"{kind}{name}" for kind in ("", "has_answer_") for name in ("exact_match", "f1")] + ["no_answer_accuracy"]
    assert set(found) == {
        "num_questions",
        *(f"{name}{interval}" for name in names for interval in ("", "_interval")),
        *(f"best_{name}{threshold}" for name in ("exact_match", "f1") for threshold in ("", "_threshold")),
    }
    for name in names:
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1


def test_intervals_are_of_the_questions_that_a_score_is_of():
    generator = np.random.default_rng(4)
    questions = [question("dog") if one else question() for one in generator.random(400) < 0.75]
    found = [answer("dog" if one else "cat", float(margin)) for one, margin in generator.random((400, 2)).round() - 0.5]
    scores = score_answers(questions, found, 0.0)
    share = scores["no_answer_accuracy"]
    num_unanswerable = sum(not one.answers for one in questions)
    expected = 2 * 1.96 * math.sqrt(share * (1 - share) / num_unanswerable)
    low, high = scores["no_answer_accuracy_interval"]
    assert high - low == pytest.approx(expected, rel=0.15)
    none = score_answers([question()] * 3, [answer("cat", 1.0)] * 3, 0.0)
    assert (none["has_answer_f1"], none["has_answer_f1_interval"], none["no_answer_accuracy"]) == (None, None, 1)


def test_without_a_threshold_a_question_goes_unanswered_only_if_there_is_no_span():
    found = score_answers([*QUESTIONS, question(), question("x")], [*FOUND, *[answer("", math.inf)] * 2], None)
    assert found["exact_match"] == pytest.approx(2 / 7)
    assert found["no_answer_accuracy"] == pytest.approx(1 / 3)
    assert found["best_exact_match_threshold"] == -5.0


def test_the_best_threshold_equals_trying_each():
    generator = np.random.default_rng(3)
    for _ in range(50):
        count = generator.integers(1, 12)
        is_right = generator.random(count) < 0.6
        questions = [question("dog cow") if one else question() for one in generator.random(count) < 0.5]
        found = [
            answer(("dog", "dog cow")[generator.integers(2)] if one else "cat", float(generator.integers(-3, 4)))
            for one in is_right
        ]
        best = score_answers(questions, found, 0.0)
        if "best_f1" not in best:
            continue
        for name in ("exact_match", "f1"):
            tried = {threshold: score_answers(questions, found, threshold)[name] for threshold in np.arange(-4.0, 4.0)}
            assert best[f"best_{name}"] == pytest.approx(max(tried.values()))
            assert tried[best[f"best_{name}_threshold"]] == pytest.approx(max(tried.values()))


def test_questions_and_answers_are_as_many():
    for questions, found in (([], []), (QUESTIONS, FOUND[:2])):
        with pytest.raises(DataError, match="each question needs its answer"):
            score_answers(questions, found, None)


def test_a_model_is_scored_on_questions_of_a_file(tmp_path):
    tokenizer = text.WordPieceTokenizer([*SPECIAL, *"abcdefgh"])
    model = TableModel(tokenizer.vocabulary_size, 12)
    answering = AnswerConfig(window_length=12, stride=3, max_question_length=4, no_answer_threshold=1.0)
    paragraphs = [
        ("a b c d e f g h " * 3, [("a b", ("c d", 4)), ("h", None)]),
        ("h g f e", [("a", ("h", 0)), ("b", ("e", 6))]),
    ]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(squad(*paragraphs)), encoding="utf-8")
    questions = list(squad_data.read_questions(f"squad:{path}"))
    pairs = [(one.question, one.context) for one in questions]
    always = dataclasses.replace(answering, no_answer_threshold=None)
    expected = score_answers(questions, list(answers(model.logits, pairs, tokenizer, always)), 1.0)
    assert evaluate_question_answering(model.logits, [f"squad:{path}"], tokenizer, answering) == expected
    # The threshold gives the same answers as it does to a user.
    outputs = [one.output for one in answers(model.logits, pairs, tokenizer, answering)]
    exact = [
        max(exact_match(output, one.text) for one in each.answers or [squad_data.Answer("", 0)])
        for output, each in zip(outputs, questions, strict=True)
    ]
    assert expected["exact_match"] == np.mean(exact)
