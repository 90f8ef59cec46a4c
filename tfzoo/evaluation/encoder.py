"""Scores of an encoder on data, by its task, from any runtime's logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from tfzoo.data.labelled import LabelIndex, number, read_labelled, read_words
from tfzoo.evaluation.classification import (
    correlations,
    score_multi_label,
    score_regression,
    score_single_label,
)
from tfzoo.evaluation.entities import score_words
from tfzoo.evaluation.likelihood import BATCH_SIZE, Logits
from tfzoo.evaluation.masked import evaluate_fill_mask
from tfzoo.runtime.tasks import encode_segments, word_inputs
from tfzoo.text.word_piece import WordPieceTokenizer

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Head(Protocol):
    """What of a model's configuration decides how it is scored; see `tfzoo.models.config.BertConfig`."""

    @property
    def num_texts(self) -> int:
        """Texts in an input."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def problem(self) -> str:
        """Of a text classifier."""


def evaluate_text_classification(
    logits: Logits, specs: Sequence[str], tokenizer: WordPieceTokenizer, head: Head, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores the labels, or numbers, of texts.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, L) float32.
        specs: data specifications of texts with labels, see `tfzoo.data.labelled`.
        tokenizer: of the model.
        head: of the model.
        data: fields of `ClassificationDataConfig`; texts are cut as they were in training.

    Returns: as `tfzoo.evaluation.classification.score_single_label`, `score_multi_label` or `score_regression` do, by
        the problem.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data, or a label that the model has not.
    """
    index_of = LabelIndex(head.labels)
    texts: list[Any] = []
    targets: list[Any] = []
    for spec in specs:
        for one in read_labelled(spec, head.num_texts, head.problem, data["label_separator"]):
            texts.append(one.texts)
            if head.problem == "regression":
                targets.append(number(one))
            else:
                targets.append([index_of(label, one.place) for label in one.labels])
    length = data["sequence_length"]
    outputs = _by_length(
        texts,
        lambda chosen: logits(encode_segments([_text(one) for one in chosen], tokenizer, length)),
        lambda one: sum(map(len, one)),
    )
    scores = np.stack(outputs)
    if head.problem == "regression":
        return score_regression(scores[:, 0], np.array(targets))
    if head.problem == "single_label":
        return score_single_label(scores, np.array(targets)[:, 0], head.labels)
    wanted = np.zeros(scores.shape)
    for row, indices in zip(wanted, targets, strict=True):
        row[indices] = 1
    return score_multi_label(scores, wanted, head.labels)


def evaluate_token_classification(
    logits: Logits, specs: Sequence[str], tokenizer: WordPieceTokenizer, head: Head, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores the labels of words; a word that was cut off counts as if it had the model's first label.

    Args:
        logits: model inputs, (B, T) int32 each -> (B, T, L) float32.
        specs: data specifications of labelled words, see `tfzoo.data.labelled`.
        tokenizer: of the model.
        head: of the model.
        data: fields of `EncoderDataConfig`; sentences are cut as they were in training.

    Returns: as `tfzoo.evaluation.entities.score_words` does, and `num_words_cut`.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data, or a label that the model has not.
    """
    index_of = LabelIndex(head.labels)
    sentences = [one for spec in specs for one in read_words(spec)]
    for one in sentences:
        for label, place in zip(one.labels, one.places, strict=True):
            index_of(label, place)

    def answer(chosen: Sequence[tuple[str, ...]]) -> list[list[int]]:
        inputs, positions = word_inputs(chosen, tokenizer, data["sequence_length"])
        best = logits(inputs).argmax(axis=-1)
        return [
            [int(row[place]) if place >= 0 else -1 for place in places]
            for row, places in zip(best, positions, strict=True)
        ]

    found = _by_length([one.words for one in sentences], answer, lambda words: sum(map(len, words)) + len(words))
    answers = [[head.labels[max(index, 0)] for index in row] for row in found]
    return score_words(answers, [one.labels for one in sentences], head.labels) | {
        "num_words_cut": sum(index < 0 for row in found for index in row)
    }


def evaluate_text_embedding(
    logits: Logits, specs: Sequence[str], tokenizer: WordPieceTokenizer, head: Head, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores how the cosines of pairs of texts go with numbers that say how alike they are (Cer et al., 2017).

    Args:
        logits: model inputs, (B, T) int32 each -> (B, D) float32.
        specs: data specifications of text_a, text_b and a number, see `tfzoo.data.labelled`.
        tokenizer: of the model.
        head: of the model.
        data: fields of `EncoderDataConfig`; texts are cut as they were in training.

    Returns: `num_examples`; `spearman` and `pearson` correlation with a 95 % interval each; None where all cosines, or
        all numbers, are the same.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data.
    """
    pairs, targets = [], []
    for spec in specs:
        for one in read_labelled(spec, 2, "regression"):
            pairs.append(one.texts)
            targets.append(number(one))
    texts = [*dict.fromkeys(text for pair in pairs for text in pair)]
    length = data["sequence_length"]
    outputs = _by_length(texts, lambda chosen: logits(encode_segments(chosen, tokenizer, length)), len)
    vectors = dict(zip(texts, outputs, strict=True))
    cosines = [_cosine(vectors[first], vectors[second]) for first, second in pairs]
    return {"num_examples": len(pairs), **correlations(np.array(cosines), np.array(targets))}


def _by_length(
    items: Sequence[Item], answer: Callable[[Sequence[Item]], Iterable[Answer]], length: Callable[[Item], int]
) -> list[Answer]:
    """Returns the answer to each item; those of similar length are asked for together."""
    order = sorted(range(len(items)), key=lambda index: length(items[index]))
    answers: dict[int, Answer] = {}
    for first in tqdm(range(0, len(order), BATCH_SIZE), "scoring", unit=" batches", leave=False, disable=None):
        chosen = order[first : first + BATCH_SIZE]
        answers |= zip(chosen, answer([items[index] for index in chosen]), strict=True)
    return [answers[index] for index in range(len(items))]


ENCODER_SCORES: dict[
    str, Callable[[Logits, Sequence[str], WordPieceTokenizer, Head, Mapping[str, Any]], dict[str, Any]]
] = {
    "fill_mask": evaluate_fill_mask,
    "text_classification": evaluate_text_classification,
    "token_classification": evaluate_token_classification,
    "text_embedding": evaluate_text_embedding,
}
"""Task -> what scores it on data."""


def _text(texts: tuple[str, ...]) -> str | tuple[str, str]:
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(one @ other / math.sqrt((one @ one) * (other @ other)))
