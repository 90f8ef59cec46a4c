"""Texts in, answers out, of models that read a text once and need no search: an encoder with the head of a task.

`ENCODER_TASKS` has for each task how texts become inputs and logits become answers, in NumPy.
`tfzoo.export.signatures_encoder` says the same in graph, for the signatures that take strings.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import UsageError, nearest
from tfzoo.runtime import question_answering
from tfzoo.runtime.head import Head, Text, checked_text
from tfzoo.runtime.predictor import BATCH_SIZE, Backend, batches
from tfzoo.runtime.tasks import Inputs, encode_masked, encode_segments, encode_words
from tfzoo.text import TokenizerPair
from tfzoo.text.special_tokens import BERT_MASK
from tfzoo.text.word_piece import WordPieceTokenizer

NUM_CANDIDATES = 5  # tokens that are given for a mask
THRESHOLD = 0.5  # score from which a label of several counts
_FORWARD_SIZE = 2**27  # logits that are held at a time, where there is one for each token of the vocabulary

Answer = dict[str, Any]
Forward = Callable[[Inputs], np.ndarray]


class EncoderTask(NamedTuple):
    """What `ENCODER_TASKS` says of a task.

    Args:
        answer: (texts, forward, tokenizer, head, options or None) -> an answer for each text: `output`, `score` (in
            [0, 1], of what is least certain), and details.
        served: answers -> what the signature `serving_default` gives for these texts, as nested lists by name.
        result: answers -> what a call of the predictor returns.
        ranked: the served output that holds names in the order of their scores, if there is one.
    """

    answer: Callable[[Sequence[Any], Forward, WordPieceTokenizer, Head, AnswerConfig | None], list[Answer]]
    served: Callable[[list[Answer]], dict[str, list[Any]]]
    result: Callable[[list[Answer]], Any]
    ranked: str | None = None


class Encoder:
    """A trained encoder with the head of a task, ready for texts.

    Args:
        backend: what computes.
        tokenizer: one for both texts of a pair.
        head: of the model.
        decoding: of a task that looks for its answers by options, those of a call that names none; else None.

    Call arguments:
        texts: strings; for a model of pairs (text_a, text_b), or (question, context), or one string with a tab between
            the two.
        **options: fields of `decoding` that differ.

    Returns: for "text_classification" a list with the best label of each text, all labels that score at least 0.5 when
        the problem is "multi_label", or a number for "regression"; for "token_classification" a list of (word, label)
        for each text, of the words that the model's positions hold; for "fill_mask" a list of the texts, with the
        likeliest token in the place of each [MASK]; for "question_answering" a list of pieces of the contexts, "" for
        no answer; for "text_embedding" (N, D) float32, vectors of length 1.

    Raises:
        UsageError: the tokenizer is not BERT's.
    """

    def __init__(
        self, backend: Backend, tokenizer: TokenizerPair, head: Head, decoding: AnswerConfig | None = None
    ) -> None:
        if not isinstance(tokenizer.source, WordPieceTokenizer):
            raise UsageError(
                f"`tokenizer` of a model for {head.task!r} must be a WordPieceTokenizer; received {tokenizer.source!r}."
            )
        self.backend = backend
        self.tokenizer = tokenizer
        self.head = head
        self.decoding = decoding
        self.pieces = tokenizer.source

    @property
    def task(self) -> str:
        """What the model is for."""
        return self.head.task

    @property
    def max_length(self) -> int:
        """Longest sequence, in tokens."""
        return self.head.max_length

    def __call__(self, texts: Iterable[Text], **options: Any) -> Any:
        """Answers each text; see the class."""
        return ENCODER_TASKS[self.task].result([*self.answer(texts, **options)])

    def answer(self, texts: Iterable[Text], *, batch_size: int = BATCH_SIZE, **options: Any) -> Iterator[Answer]:
        """Returns for each text what JSON can hold of its answer; reads `batch_size` texts at a time.

        Raises:
            UsageError: an option that the task has not, before any text is read; later, a text is no string, or no
                pair where the model reads pairs.
        """
        read = batches(texts, batch_size)
        config = self.options(**options)
        return itertools.chain.from_iterable(self._answer_batch(batch, config) for batch in read)

    def served(self, texts: Sequence[Text]) -> dict[str, list[Any]]:
        """Returns what the signature `serving_default` gives for texts, by output name."""
        return ENCODER_TASKS[self.task].served(self._answer_batch(texts, self.decoding))

    def options(self, **options: Any) -> AnswerConfig | None:
        """Returns the options of a call that names these.

        Raises:
            UsageError: an option that the task has not, or that is out of its range.
        """
        if self.decoding is None:
            for name in options:
                raise UsageError(f"a model for {self.task!r} takes no options; received {name}={options[name]!r}.")
            return None
        known = [field.name for field in dataclasses.fields(self.decoding)]
        for name in options:
            if name not in known:
                raise UsageError(
                    f"{self.task!r} has no option {name!r}.{nearest(name, known)} There are {', '.join(known)}."
                )
        return dataclasses.replace(self.decoding, **options)

    def _answer_batch(self, texts: Sequence[Text], config: AnswerConfig | None) -> list[Answer]:
        checked = [checked_text(text, self.head.num_texts) for text in texts]
        return ENCODER_TASKS[self.task].answer(checked, self.backend.logits, self.pieces, self.head, config)


def _classify(
    texts: Sequence[Text], forward: Forward, tokenizer: WordPieceTokenizer, head: Head, _: AnswerConfig | None
) -> list[Answer]:
    logits = forward(encode_segments(texts, tokenizer, head.max_length))
    if head.problem == "regression":
        return [{"output": value, "score": value} for (value,) in logits.tolist()]
    answers = []
    for row, scores in zip(logits, sigmoid(logits) if head.problem == "multi_label" else softmax(logits), strict=True):
        # By the logits: scores near 0 and 1 are rounded to the same number.
        order = np.argsort(-row, kind="stable")
        labels, ranked = [head.labels[index] for index in order], scores[order].tolist()
        best: Any = labels[0]
        if head.problem == "multi_label":
            best = [label for label, score in zip(labels, ranked, strict=True) if score >= THRESHOLD]
        answers.append({"output": best, "score": ranked[0], "labels": labels, "scores": ranked})
    return answers


def _served_classes(answers: list[Answer]) -> dict[str, list[Any]]:
    if "labels" not in answers[0]:
        return {"scores": [[answer["score"]] for answer in answers]}
    return {name: [answer[name] for answer in answers] for name in ("labels", "scores")}


def _tag(
    texts: Sequence[str], forward: Forward, tokenizer: WordPieceTokenizer, head: Head, _: AnswerConfig | None
) -> list[Answer]:
    inputs, words, positions = encode_words(texts, tokenizer, head.max_length)
    answers = []
    for row, row_words, places in zip(forward(inputs), words, positions, strict=True):
        read = [(word, place) for word, place in zip(row_words, places, strict=True) if place >= 0]
        found = softmax(row[[place for _, place in read]])
        labels = [head.labels[index] for index in found.argmax(-1)]
        scores = found.max(-1, initial=0).tolist()
        answers.append(
            {
                "output": " ".join(labels),
                "score": min(scores, default=1.0),
                "words": [word for word, _ in read],
                "labels": labels,
                "scores": scores,
            }
        )
    return answers


def _served_words(answers: list[Answer]) -> dict[str, list[Any]]:
    width = max(len(answer["words"]) for answer in answers)
    return {
        name: [answer[name] + [filler] * (width - len(answer["words"])) for answer in answers]
        for name, filler in (("words", ""), ("labels", ""), ("scores", 0.0))
    }


def _fill(
    texts: Sequence[str], forward: Forward, tokenizer: WordPieceTokenizer, head: Head, _: AnswerConfig | None
) -> list[Answer]:
    inputs = encode_masked(texts, tokenizer, head.max_length)
    num_rows = max(1, _FORWARD_SIZE // (inputs["token_ids"].shape[1] * tokenizer.vocabulary_size))
    answers = []
    for first in range(0, len(texts), num_rows):
        part = {name: value[first : first + num_rows] for name, value in inputs.items()}
        rows = zip(texts[first:], part["token_ids"], forward(part), strict=False)
        answers += [_filled(text, row[ids == tokenizer.mask_id], tokenizer) for text, ids, row in rows]
    return answers


def _filled(text: str, logits: np.ndarray, tokenizer: WordPieceTokenizer) -> Answer:
    """Of the (M, V) logits of the masks that the model's positions hold; those behind stay as they are."""
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :NUM_CANDIDATES]
    tokens = [[tokenizer.decode([index]) for index in row] for row in order.tolist()]
    scores = np.take_along_axis(softmax(logits), order, -1).tolist()
    before, *parts = text.split(BERT_MASK)
    fillers = [row[0].removeprefix("##") for row in tokens] + [BERT_MASK] * (len(parts) - len(tokens))
    return {
        "output": before + "".join(filler + part for filler, part in zip(fillers, parts, strict=True)),
        "score": min((row[0] for row in scores), default=1.0),
        "tokens": tokens,
        "scores": scores,
    }


def _served_masks(answers: list[Answer]) -> dict[str, list[Any]]:
    num_masks = max(len(answer["tokens"]) for answer in answers)
    size = max((len(row) for answer in answers for row in answer["tokens"]), default=0)
    padded = {
        name: [answer[name] + [[filler] * size] * (num_masks - len(answer[name])) for answer in answers]
        for name, filler in (("tokens", ""), ("scores", 0.0))
    }
    return {"outputs": [answer["output"] for answer in answers], **padded}


def _embed(
    texts: Sequence[str], forward: Forward, tokenizer: WordPieceTokenizer, head: Head, _: AnswerConfig | None
) -> list[Answer]:
    vectors = forward(encode_segments(texts, tokenizer, head.max_length))
    return [{"output": vector} for vector in vectors.tolist()]


def _answer_questions(
    texts: Sequence[tuple[str, str]],
    forward: Forward,
    tokenizer: WordPieceTokenizer,
    head: Head,
    config: AnswerConfig | None,
) -> list[Answer]:
    found = question_answering.answers(forward, texts, tokenizer, config or AnswerConfig())
    # The margin is infinite where a context holds no token, and JSON has no such number.
    return [{name: value for name, value in one._asdict().items() if name != "margin"} for one in found]


def _served_spans(answers: list[Answer]) -> dict[str, list[Any]]:
    names = {"answers": "output", "scores": "score", "starts": "start", "ends": "end"}
    return {theirs: [answer[ours] for answer in answers] for theirs, ours in names.items()}


def joined(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the model's forward gives, of the names that its outputs have at an artifact's borders."""
    if "start_logits" in outputs:
        return np.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
    (output,) = outputs.values()
    return output


def softmax(logits: np.ndarray) -> np.ndarray:
    """(..., V) logits -> probabilities."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return exponentials / exponentials.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """(...) logits -> probabilities; no large number overflows."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def _outputs(answers: list[Answer]) -> list[Any]:
    return [answer["output"] for answer in answers]


ENCODER_TASKS = {
    "text_classification": EncoderTask(_classify, _served_classes, _outputs, ranked="labels"),
    "token_classification": EncoderTask(
        _tag,
        _served_words,
        lambda answers: [list(zip(answer["words"], answer["labels"], strict=True)) for answer in answers],
    ),
    "fill_mask": EncoderTask(_fill, _served_masks, _outputs, ranked="tokens"),
    "question_answering": EncoderTask(_answer_questions, _served_spans, _outputs),
    "text_embedding": EncoderTask(
        _embed,
        lambda answers: {"embeddings": _outputs(answers)},
        lambda answers: np.array(_outputs(answers), np.float32),
    ),
}
