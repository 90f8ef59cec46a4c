"""Exact match and F1 of answers, as SQuAD's official scripts define them, with and without unanswerable questions.

Rajpurkar et al., 2016, section 6.1; Rajpurkar et al., 2018, section 5. The packages that have these scores bring a
framework with them: torchmetrics needs PyTorch, evaluate needs datasets.

Scores are shares here, which the official scripts write times 100.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from tfzoo.data.squad import Question, read_questions
from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import DataError
from tfzoo.evaluation.bootstrap import with_intervals
from tfzoo.runtime.question_answering import Answer, Logits, answers
from tfzoo.text.word_piece import WordPieceTokenizer

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def evaluate_question_answering(
    logits: Logits, specs: Sequence[str], tokenizer: WordPieceTokenizer, answering: AnswerConfig
) -> dict[str, Any]:
    """Answers the questions of data specifications and scores the answers; see `score_answers`.

    Args:
        logits: model inputs, (W, T) int32 each -> (W, 2, T) float32, start and end logits.
        specs: data specifications of questions, such as "squad:dev-v2.0.json".
        tokenizer: of the model.
        answering: how windows are cut and spans are searched.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data.
    """
    questions = [one for spec in specs for one in read_questions(spec)]
    progress = tqdm(questions, "answering", unit=" questions", leave=False, disable=None)
    always = dataclasses.replace(answering, no_answer_threshold=None)
    found = list(answers(logits, ((one.question, one.context) for one in progress), tokenizer, always))
    return score_answers(questions, found, answering.no_answer_threshold)


def score_answers(
    questions: Sequence[Question], found: Sequence[Answer], no_answer_threshold: float | None
) -> dict[str, Any]:
    """Scores answers against those that are right, of which the closest one counts.

    Args:
        questions: N questions.
        found: the best span for each, as `answers` gives it without a threshold.
        no_answer_threshold: an answer whose `margin` is above it counts as none; None = no answer does.

    Returns: `num_questions`, `exact_match` and `f1`, shares. If some questions have no answer, also both scores of the
        others (`has_answer_exact_match`, `has_answer_f1`; None without others) and the share of those that were given
        none (`no_answer_accuracy`). All of these have intervals, see `tfzoo.evaluation.bootstrap`. Then what the best
        threshold for these questions gives (`best_exact_match`, `best_f1`), and which it is
        (`best_exact_match_threshold`, `best_f1_threshold`; the lowest of several).

    Raises:
        DataError: no questions, or another number of answers.
    """
    if not questions or len(questions) != len(found):
        raise DataError(f"each question needs its answer; received {len(questions)} questions, {len(found)} answers.")
    # Like the official script, answers that are nothing but articles and punctuation count as none.
    right = [[one.text for one in question.answers if normalized(one.text)] for question in questions]
    has_answer = np.array([bool(question.answers) for question in questions])
    margins = np.array([answer.margin for answer in found])
    is_given = np.isfinite(margins) if no_answer_threshold is None else margins <= no_answer_threshold
    of_spans = {
        name: np.array(
            [
                max(score(answer.output, text) for text in texts or [""])
                for answer, texts in zip(found, right, strict=True)
            ]
        )
        for name, score in (("exact_match", exact_match), ("f1", f1))
    }
    of_questions = {name: np.where(is_given, values, ~has_answer) for name, values in of_spans.items()}

    def statistic(draws: np.ndarray) -> dict[str, np.ndarray]:
        scores = {name: values[draws].mean(axis=1) for name, values in of_questions.items()}
        if not has_answer.all():
            for name, values in of_questions.items():
                scores[f"has_answer_{name}"] = _mean(values[draws], has_answer[draws])
            scores["no_answer_accuracy"] = _mean(~is_given[draws], ~has_answer[draws])
        return scores

    scores: dict[str, Any] = {"num_questions": len(questions), **with_intervals(statistic, len(questions))}
    if not has_answer.all():
        for name, values in of_spans.items():
            best = _best_threshold(values, ~has_answer, margins)
            scores[f"best_{name}"], scores[f"best_{name}_threshold"] = best
    return scores


def _mean(values: np.ndarray, is_counted: np.ndarray) -> np.ndarray:
    """Returns the (R,) means of those of (R, N) values that count; NaN where none does."""
    numbers = is_counted.sum(axis=1)
    sums = np.where(is_counted, values, 0).sum(axis=1)
    return np.divide(sums, numbers, out=np.full(len(sums), np.nan), where=numbers > 0)


def _best_threshold(of_spans: np.ndarray, of_none: np.ndarray, margins: np.ndarray) -> tuple[float, float]:
    """Returns the highest mean score of any threshold, and the lowest threshold that has it.

    Unlike the official script it answers all questions of one margin, or none of them.

    Args:
        of_spans: (N,) score of each question's span.
        of_none: (N,) score of giving no answer.
        margins: (N,) see `Answer.margin`.
    """
    finite = np.unique(margins[np.isfinite(margins)])
    # The first answers no question.
    thresholds = np.concatenate([finite[:1] - 1, finite]) if len(finite) else np.zeros(1)
    order = np.argsort(margins, kind="stable")
    gains = np.concatenate([[0], np.cumsum((of_spans - of_none)[order])])
    totals = of_none.sum() + gains[np.searchsorted(margins[order], thresholds, side="right")]
    best = int(totals.argmax())
    return float(totals[best] / len(margins)), float(thresholds[best])


def exact_match(output: str, reference: str) -> float:
    """Returns 1 if the texts are equal but for case, punctuation, articles and white space, else 0.

    >>> exact_match("The dogs!", "dogs")
    1.0
    """
    return float(normalized(output) == normalized(reference))


def f1(output: str, reference: str) -> float:
    """Returns the harmonic mean of precision and recall of the words that two texts share.

    >>> round(f1("the big dog", "a big black dog"), 3)
    0.8
    """
    ours, theirs = normalized(output).split(), normalized(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    num_shared = (collections.Counter(ours) & collections.Counter(theirs)).total()
    return 2 * num_shared / (len(ours) + len(theirs))


def normalized(text: str) -> str:
    """Returns a text in lower case, without ASCII punctuation and English articles, words parted by one space.

    >>> normalized(" The U.S.  and an ox")
    'us and ox'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
