"""Which piece of a context answers a question (Devlin et al., 2019, sections 4.2 and 4.3), without TensorFlow.

A context is cut into windows, see `tfzoo.data.windows`. A span of tokens i to j of one window has the score S.T_i +
E.T_j, the sum of a start and an end logit; of all spans of all windows the highest is the answer. No answer has the
score S.C + E.C, of the window's [CLS]; of several windows it is the lowest, as in the code that the paper published: a
context does not answer a question only if no part of it does.

Differs from that code, which takes a token's start logit from the one window alone where it has the most context: here
every window speaks for every token in it.

`tfzoo.export.question_answering` has the same in graph, for the signature that takes strings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfzoo.data.windows import NUM_SPECIAL, cut_windows
from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import UsageError
from tfzoo.runtime.tasks import Inputs, segment_inputs
from tfzoo.text.word_piece import WordPieceTokenizer

BATCH_SIZE = 64  # questions that are cut into windows together
NUM_WINDOWS = 32  # that a model reads at once

Logits = Callable[[Inputs], np.ndarray]


class Answer(NamedTuple):
    """What answers a question.

    output: `context[start:end]`, or "" for no answer. start and end: characters (code points), -1 for no answer.
    score: the probability of the span in its window, in (0, 1]: a softmax over the scores of all spans that might be an
        answer there, and that of none; of no answer, the least of its probabilities in the windows.
    margin: by how much, in logits, no answer beats the best span; infinite where there is no span. The answer is ""
        where it is above `AnswerConfig.no_answer_threshold`.
    """

    output: str
    score: float
    start: int
    end: int
    margin: float


class Spans(NamedTuple):
    """The best span of each of W windows.

    starts, ends: (W,) int, positions in the window of the first and the last token; 0 where no span is possible.
    scores: (W,) float32, logits; -inf where no span is possible. no_answer: (W,) float32, logits of [CLS]. totals: (W,)
    float32, log of the sum of the exponentials of both and of all other spans' scores.
    """

    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    no_answer: np.ndarray
    totals: np.ndarray


class Question(NamedTuple):
    """A question with its context, tokenized.

    spans: (N, 2) int, the (start, end) of each token of the context.
    """

    token_ids: list[int]
    context_ids: list[int]
    spans: np.ndarray


def answers(
    logits: Logits, pairs: Iterable[tuple[str, str]], tokenizer: WordPieceTokenizer, answering: AnswerConfig
) -> Iterator[Answer]:
    """Answers questions; reads some at a time, and tokenizes a context once that several of them share.

    Args:
        logits: model inputs, (W, T) int32 each -> (W, 2, T) float32, start and end logits.
        pairs: (question, context) texts.
        tokenizer: of the model.
        answering: how windows are cut and spans are searched.

    Raises:
        UsageError: a pair is not two strings.
    """
    pairs = iter(pairs)
    for chunk in iter(lambda: list(itertools.islice(pairs, BATCH_SIZE)), []):
        yield from _answer(logits, chunk, tokenizer, answering)


def tokenize_questions(
    pairs: Sequence[tuple[str, str]], tokenizer: WordPieceTokenizer, max_question_length: int
) -> list[Question]:
    """Tokenizes questions, which lose their tails if too long, and each distinct context once.

    Raises:
        UsageError: a pair is not two strings.
    """
    contexts: dict[str, tuple[list[int], np.ndarray]] = {}
    found = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise UsageError(f"a question and its context are needed, two strings; received {pair!r}.")
        question, context = pair
        if context not in contexts:
            ids, spans = tokenizer.encode_with_offsets(context)
            contexts[context] = ids, np.array(spans, np.int64).reshape(-1, 2)
        found.append(Question(tokenizer.encode(question)[:max_question_length], *contexts[context]))
    return found


def best_spans(logits: np.ndarray, question_lengths: np.ndarray, sizes: np.ndarray, max_answer_length: int) -> Spans:
    """Finds the best span of each window; of equals the one that begins, then the one that ends first.

    Args:
        logits: (W, 2, T) float32, start and end logits; what they are at padding and at the question does not matter.
        question_lengths: (W,) int, tokens.
        sizes: (W,) int, tokens of the context in the window.
        max_answer_length: most tokens of a span.
    """
    num_windows, _, length = logits.shape
    first = (NUM_SPECIAL - 1 + question_lengths)[:, np.newaxis]
    positions = np.arange(length)
    is_context = (positions >= first) & (positions < first + sizes[:, np.newaxis])
    starts, ends = np.where(is_context[:, np.newaxis], logits, np.float32(-np.inf)).transpose(1, 0, 2)
    longest = min(max_answer_length, length)
    ends = np.pad(ends, ((0, 0), (0, longest - 1)), constant_values=-np.inf)
    # (W, T, A): a span from each position, of each length.
    scores = starts[:, :, np.newaxis] + np.lib.stride_tricks.sliding_window_view(ends, longest, axis=1)
    scores = scores.reshape(num_windows, -1)
    best = scores.argmax(axis=1)
    no_answer = logits[:, :, 0].sum(axis=1)
    start, size = np.divmod(best, longest)
    highest = np.take_along_axis(scores, best[:, np.newaxis], axis=1)[:, 0]
    shift = np.maximum(highest, no_answer)
    sums = np.exp(scores - shift[:, np.newaxis]).sum(axis=1) + np.exp(no_answer - shift)
    return Spans(start, start + size, highest, no_answer, shift + np.log(sums))


def _answer(
    logits: Logits, pairs: list[tuple[str, str]], tokenizer: WordPieceTokenizer, answering: AnswerConfig
) -> Iterator[Answer]:
    questions = tokenize_questions(pairs, tokenizer, answering.max_question_length)
    question_lengths = np.array([len(one.token_ids) for one in questions])
    context_lengths = np.array([len(one.context_ids) for one in questions])
    examples, starts, sizes = cut_windows(
        question_lengths, context_lengths, window_length=answering.window_length, stride=answering.stride
    )
    # Windows of similar length are read together.
    order = np.argsort(question_lengths[examples] + sizes, kind="stable")
    found = []
    for batch in np.split(order, range(NUM_WINDOWS, len(order), NUM_WINDOWS)):
        rows = [
            (questions[one].token_ids, questions[one].context_ids[start : start + size])
            for one, start, size in zip(examples[batch], starts[batch], sizes[batch], strict=True)
        ]
        values = logits(segment_inputs(rows, tokenizer, answering.window_length))
        found.append(best_spans(values, question_lengths[examples[batch]], sizes[batch], answering.max_answer_length))
    places = np.argsort(order)
    spans = Spans(*(np.concatenate(column)[places] for column in zip(*found, strict=True)))
    for number, (one, (_, context)) in enumerate(zip(questions, pairs, strict=True)):
        mine = examples == number
        own_spans = Spans(*(column[mine] for column in spans))
        yield _best(one, context, own_spans, starts[mine], answering.no_answer_threshold)


def _best(
    question: Question, context: str, spans: Spans, starts: np.ndarray, no_answer_threshold: float | None
) -> Answer:
    """The answer of one question, given the best spans of its windows, and where these start in the context."""
    best = int(spans.scores.argmax())
    margin = float(spans.no_answer.min() - spans.scores[best])
    if margin == np.inf or (no_answer_threshold is not None and margin > no_answer_threshold):
        return Answer("", float(np.exp(spans.no_answer - spans.totals).min()), -1, -1, margin)
    before = int(starts[best]) - len(question.token_ids) - (NUM_SPECIAL - 1)
    start = int(question.spans[before + int(spans.starts[best]), 0])
    end = int(question.spans[before + int(spans.ends[best]), 1])
    return Answer(context[start:end], float(np.exp(spans.scores[best] - spans.totals[best])), start, end, margin)
