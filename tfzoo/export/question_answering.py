"""Questions and contexts as strings to answers, in graph; see `tfzoo.runtime.question_answering`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfzoo.data.windows import NUM_SPECIAL, Windows, cut_windows_in_graph, window_inputs
from tfzoo.decoding.config import AnswerConfig
from tfzoo.runtime.question_answering import NUM_WINDOWS
from tfzoo.text.word_piece import WordPieceTokenizer


class Spans(NamedTuple):
    """As `tfzoo.runtime.question_answering.Spans`, in tensors."""

    starts: tf.Tensor
    ends: tf.Tensor
    scores: tf.Tensor
    no_answer: tf.Tensor
    totals: tf.Tensor


def answer_signature(
    model: keras.Model, tokenizer: WordPieceTokenizer, answering: AnswerConfig
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the function that answers questions, to be served under the names of its arguments.

    It equals `tfzoo.runtime.question_answering.answers`. The model reads `NUM_WINDOWS` windows at once, however long
    the contexts of a request are, so that memory grows with their text alone.

    Args:
        model: (W, 2, T) logits of `token_ids`, `padding_mask` and `segment_ids`.
        tokenizer: of the model.
        answering: how windows are cut and spans are searched.

    Returns: `question` and `context` (B,) string -> `answers` (B,) string, "" for none, `scores` (B,) float32, `starts`
        and `ends` (B,) int32, code points of the context, -1 for none.
    """

    def answer(question: tf.Tensor, context: tf.Tensor) -> dict[str, tf.Tensor]:
        question_ids = tokenizer.tokenize(question)[:, : answering.max_question_length]
        context_ids, token_starts, token_ends = tokenizer.tokenize_with_offsets(context)
        question_lengths = question_ids.row_lengths()
        windows = cut_windows_in_graph(
            question_lengths,
            context_ids.row_lengths(),
            window_length=answering.window_length,
            stride=answering.stride,
        )
        examples = windows.examples

        def read(some: Windows) -> Spans:
            asked = tf.gather(question_ids, some.examples)
            inputs = window_inputs(asked, context_ids, some, tokenizer, answering.window_length)
            logits = model(inputs, training=False)
            longest = min(answering.max_answer_length, answering.window_length)
            return best_spans(logits, asked.row_lengths(), some.sizes, longest)

        spans = _in_parts(read, windows)
        highest = tf.math.segment_max(spans.scores, examples)
        # The first of the windows that have it.
        place = tf.where(spans.scores == tf.gather(highest, examples), tf.range(tf.size(examples)), tf.size(examples))
        best = tf.math.segment_min(place, examples)
        has_answer = highest > -float("inf")
        if answering.no_answer_threshold is not None:
            margin = tf.math.segment_min(spans.no_answer, examples) - highest
            has_answer &= margin <= answering.no_answer_threshold
        before = context_ids.row_starts() + tf.gather(windows.starts, best) - question_lengths - (NUM_SPECIAL - 1)

        def characters(of_tokens: tf.RaggedTensor, positions: tf.Tensor) -> tf.Tensor:
            values = tf.concat([of_tokens.flat_values, [-1]], axis=0)
            none = tf.size(values, tf.int64) - 1
            return tf.gather(values, tf.where(has_answer, before + tf.gather(positions, best), none))

        starts, ends = characters(token_starts, spans.starts), characters(token_ends, spans.ends)
        # Bytes that are not UTF-8 count as what they are read as.
        text = tf.strings.unicode_transcode(context, "UTF-8", "UTF-8")
        of_none = tf.math.segment_min(tf.exp(spans.no_answer - spans.totals), examples)
        return {
            "answers": tf.strings.substr(text, tf.maximum(starts, 0), ends - starts, unit="UTF8_CHAR"),
            "scores": tf.where(has_answer, tf.exp(highest - tf.gather(spans.totals, best)), of_none),
            "starts": starts,
            "ends": ends,
        }

    return answer


def best_spans(logits: tf.Tensor, question_lengths: tf.Tensor, sizes: tf.Tensor, max_answer_length: int) -> Spans:
    """As `tfzoo.runtime.question_answering.best_spans`, in graph."""
    length = tf.shape(logits)[2]
    first = (NUM_SPECIAL - 1 + question_lengths)[:, tf.newaxis]
    positions = tf.range(tf.cast(length, tf.int64))
    is_context = (positions >= first) & (positions < first + sizes[:, tf.newaxis])
    starts, ends = tf.unstack(tf.where(is_context[:, tf.newaxis], logits, -float("inf")), axis=1)
    ends = tf.pad(ends, [[0, 0], [0, max_answer_length - 1]], constant_values=-float("inf"))
    # (W, T, A): a span from each position, of each length.
    following = tf.gather(ends, tf.range(length)[:, tf.newaxis] + tf.range(max_answer_length), axis=1)
    scores = tf.reshape(starts[:, :, tf.newaxis] + following, [-1, length * max_answer_length])
    best = tf.argmax(scores, axis=1)
    no_answer = tf.reduce_sum(logits[:, :, 0], axis=1)
    totals = tf.reduce_logsumexp(tf.concat([scores, no_answer[:, tf.newaxis]], axis=1), axis=1)
    start, size = best // max_answer_length, best % max_answer_length
    return Spans(start, start + size, tf.gather(scores, best, batch_dims=1), no_answer, totals)


def _in_parts(read: Callable[[Windows], Spans], windows: Windows) -> Spans:
    """Returns the spans of all windows, of which `read` is given `NUM_WINDOWS` at a time."""
    num_windows = tf.size(windows.examples)

    def body(first: tf.Tensor, found: Spans) -> tuple[tf.Tensor, Spans]:
        spans = read(Windows(*(column[first : first + NUM_WINDOWS] for column in windows)))
        return first + NUM_WINDOWS, Spans(*(tf.concat(pair, axis=0) for pair in zip(found, spans, strict=True)))

    empty = Spans(*(tf.zeros([0], dtype) for dtype in (tf.int64, tf.int64, tf.float32, tf.float32, tf.float32)))
    _, found = tf.while_loop(
        lambda first, _: first < num_windows,
        body,
        (tf.constant(0), empty),
        shape_invariants=(tf.TensorShape([]), Spans(*(tf.TensorShape([None]) for _ in empty))),
        parallel_iterations=1,  # else several parts would be in memory at once
    )
    return found
