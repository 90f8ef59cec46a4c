"""Questions with contexts to the windows that a model learns to answer on (Devlin et al., 2019, sections 4.2, 4.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from tfzoo.data.batches import sorted_batches
from tfzoo.data.config import QuestionAnsweringDataConfig, check_windows
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.data.sources import mixture
from tfzoo.data.squad import Answer, read_questions
from tfzoo.data.windows import NUM_SPECIAL, Windows, cut_windows, window_inputs
from tfzoo.errors import DataError
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

SpanBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]

_CHUNK = 1024  # contexts tokenized at once


def question_answering(
    specs: str | Sequence[str],
    tokenizer: WordPieceTokenizer,
    *,
    window_length: int = 384,
    stride: int = 128,
    max_question_length: int = 64,
    batch_size: int = 16,
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Returns batches of windows, and where in each the answer begins and ends; of several answers, the first.

    A window is [CLS] question [SEP] part of the context [SEP], and its answer (0, 0), the place of [CLS], where the
    window does not hold the answer whole. Windows of similar length share a batch. All questions are read and
    tokenized in this call, each context once; the order is a function of `seed` and the epoch alone.

    With [CLS] = 2, [SEP] = 3, a = 5, b = 6, c = 7, d = 8, window_length=6 and stride=1, the question "a" with the
    context "b c d" and the answer "c d" gives

        token_ids     [[2, 5, 3, 6, 7, 3], [2, 5, 3, 7, 8, 3]]
        padding_mask  [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
        segment_ids   [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
        labels        [[0, 0], [3, 4]]

    Args:
        specs: one data specification of questions or several, such as "squad:train-v2.0.json". Several are
            concatenated; if one has a weight ("squad:train.json@0.3"), they are mixed by their weights, 1 where none
            is given.
        tokenizer: gives the ids, [CLS], [SEP] and padding.
        window_length: most tokens of a window.
        stride: tokens of the context by which a window is ahead of the one before.
        max_question_length: tokens of a question; a longer one loses its tail.
        batch_size: windows in a batch; the last batch of an epoch may have fewer.
        shuffle: False = as they stand in the files, but sorted by length some batches at a time.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True = batches of few shapes, for XLA and TPU: T is the end of a bucket, and the last batch has B
            rows too, some of which weigh nothing; see `tfzoo.data.few_shapes`.

    Returns: a dataset of ({"token_ids", "padding_mask", "segment_ids"} (B, T) int32 each, labels (B, 2) int32, the
        positions of the answer's first and last token, and sample_weight (B, 2) float32, all 1). Its cardinality is
        known.

    Raises:
        UsageError: a number out of its range, or a specification of another kind or none.
        DataError: missing or malformed data, or no question whose answer has a token.
    """
    import tensorflow as tf

    QuestionAnsweringDataConfig(batch_size=batch_size, seed=seed)  # checks the numbers
    check_windows(window_length=window_length, stride=stride, max_question_length=max_question_length)
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = mixture(specs)
    questions = _tokenize(specs, tokenizer, max_question_length)
    question_lengths = questions.token_ids.row_lengths().numpy()
    context_lengths = questions.context_ids.row_lengths().numpy()[questions.contexts]
    examples, starts, sizes = cut_windows(question_lengths, context_lengths, window_length=window_length, stride=stride)
    labels = _labels(questions.answers[examples], starts, sizes, question_lengths[examples])
    logging.info("%d questions in %d windows.", len(questions.contexts), len(examples))
    with tf.device("CPU"):  # a tf.data pipeline runs there
        columns = tuple(map(tf.constant, (examples, questions.contexts[examples], starts, sizes, labels)))

    def example(indices: tf.Tensor, epoch: tf.Tensor) -> SpanBatch:
        asked, *window, answers = (tf.gather(column, indices) for column in columns)
        ids = tf.gather(questions.token_ids, asked)
        inputs = window_inputs(ids, questions.context_ids, Windows(*window), tokenizer, window_length)
        return inputs, answers, tf.ones_like(answers, tf.float32)

    batches = sorted_batches(
        example,
        NUM_SPECIAL + question_lengths[examples] + sizes,
        questions.origins[examples],
        batch_size=batch_size,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        repeat=repeat,
        start_step=start_step,
    )
    if not static_shapes:
        return batches
    return with_few_shapes(batches, num_rows=batch_size, max_length=window_length, pad_id=tokenizer.pad_id)


@dataclasses.dataclass(frozen=True)
class _Questions:
    """N questions of C contexts.

    token_ids: (N, None) int32. context_ids: (C, None) int32. contexts: (N,) int, which one. answers: (N, 2) int, the
    first and the last token of the context that the answer has; (-1, -1) = no answer. origins: (N,) int.
    """

    token_ids: tf.RaggedTensor
    context_ids: tf.RaggedTensor
    contexts: np.ndarray
    answers: np.ndarray
    origins: np.ndarray


def answer_tokens(answer: Answer, starts: np.ndarray, ends: np.ndarray) -> tuple[int, int] | None:
    """Returns the first and the last token that have a character of the answer; None if none has.

    Args:
        answer: of a context.
        starts: (T,) int, where each token of the context begins, in characters.
        ends: (T,) int, where it ends.
    """
    first = int(np.searchsorted(ends, answer.start, side="right"))
    last = int(np.searchsorted(starts, answer.start + len(answer.text), side="left")) - 1
    return (first, last) if first <= last else None


def _labels(answers: np.ndarray, starts: np.ndarray, sizes: np.ndarray, question_lengths: np.ndarray) -> np.ndarray:
    """Returns (W, 2) int32 positions in windows of the tokens (W, 2) of an answer; (0, 0) unless all are inside."""
    is_inside = (answers[:, 0] >= starts) & (answers[:, 1] < starts + sizes)
    before = NUM_SPECIAL - 1 + question_lengths - starts
    return np.where(is_inside[:, np.newaxis], answers + before[:, np.newaxis], 0).astype(np.int32)


def _tokenize(specs: Sequence[str], tokenizer: WordPieceTokenizer, max_question_length: int) -> _Questions:
    """Reads and tokenizes all questions; those whose answer has no token are left out and counted."""
    texts, contexts, answers, origins = [], [], [], []
    numbers: dict[str, int] = {}  # context -> its index
    for origin, spec in enumerate(specs):
        for one in read_questions(spec):
            texts.append(one.question)
            contexts.append(numbers.setdefault(one.context, len(numbers)))
            answers.append(one.answers[0] if one.answers else None)
            origins.append(origin)
    context_ids, starts, ends = _in_chunks(tokenizer.tokenize_with_offsets, [*numbers])
    splits, starts, ends = context_ids.row_splits.numpy(), starts.flat_values.numpy(), ends.flat_values.numpy()
    tokens = np.full((len(texts), 2), -1)
    is_kept = np.ones(len(texts), bool)
    for index, (context, answer) in enumerate(zip(contexts, answers, strict=True)):
        if answer is not None:
            row = slice(splits[context], splits[context + 1])
            found = answer_tokens(answer, starts[row], ends[row])
            is_kept[index] = found is not None
            tokens[index] = found or -1
    origins_array = np.array(origins)
    for origin, spec in enumerate(specs):
        is_own = origins_array == origin
        num_kept = int(is_kept[is_own].sum())
        num_left_out = int(is_own.sum()) - num_kept
        logging.info("%s: %d questions; %d whose answer has no token left out.", spec, num_kept, num_left_out)
        if not num_kept:
            raise DataError(f"{spec}: no answer to any of its {num_left_out} questions has a token in its context.")
    kept = [text for text, is_one in zip(texts, is_kept, strict=True) if is_one]
    (token_ids,) = _in_chunks(lambda strings: (tokenizer.tokenize(strings)[:, :max_question_length],), kept)
    return _Questions(
        token_ids,
        context_ids,
        np.array(contexts)[is_kept],
        tokens[is_kept],
        origins_array[is_kept],
    )


def _in_chunks(
    tokenize: Callable[[tf.Tensor], Sequence[tf.RaggedTensor]], texts: Sequence[str]
) -> list[tf.RaggedTensor]:
    """Returns what a function gives for texts, and is called with some of them at a time."""
    import tensorflow as tf

    parts = [tokenize(tf.constant(texts[first : first + _CHUNK])) for first in range(0, len(texts), _CHUNK)]
    with tf.device("CPU"):  # a tf.data pipeline runs there
        return [tf.concat(part, axis=0) for part in zip(*parts, strict=True)]
