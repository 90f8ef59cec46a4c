"""Contexts that are longer than a model reads, cut into overlapping windows (Devlin et al., 2019, section 4.2).

A window is [CLS] question [SEP] part of the context [SEP]. The paper is silent on long contexts; as in the code that it
published, a window begins `stride` tokens behind the one before, and the last one ends where the context does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfzoo.data.examples import join_segments, segment_inputs
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

NUM_SPECIAL = 3
"""Tokens of a window that are neither question nor context: [CLS], [SEP] and [SEP]."""


class Windows(NamedTuple):
    """W windows of B questions with their contexts.

    examples: (W,) int64, which question. starts and sizes: (W,) int64, tokens of its context before, and in the window.
    """

    examples: tf.Tensor
    starts: tf.Tensor
    sizes: tf.Tensor


def cut_windows(
    question_lengths: np.ndarray, context_lengths: np.ndarray, *, window_length: int, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts contexts into windows; each of their tokens is in one of them, and a context of no tokens has one window.

    A question of 2 tokens, a context of 7, window_length=9 and stride=3 give

        examples [0, 0], starts [0, 3], sizes [4, 4]

    Args:
        question_lengths: (B,) int, tokens.
        context_lengths: (B,) int, tokens.
        window_length: tokens of a window.
        stride: tokens of the context by which a window is ahead of the one before.

    Returns: the fields of `Windows`, in the order of the questions and of their contexts.
    """
    room = window_length - NUM_SPECIAL - question_lengths
    counts = 1 + np.maximum(0, -(-(context_lengths - room) // stride))
    examples = np.repeat(np.arange(len(counts)), counts)
    starts = (np.arange(len(examples)) - np.repeat(np.cumsum(counts) - counts, counts)) * stride
    return examples, starts, np.minimum(room[examples], context_lengths[examples] - starts)


def cut_windows_in_graph(
    question_lengths: tf.Tensor, context_lengths: tf.Tensor, *, window_length: int, stride: int
) -> Windows:
    """As `cut_windows`, of (B,) int64 tensors."""
    import tensorflow as tf

    room = window_length - NUM_SPECIAL - question_lengths
    counts = 1 + tf.maximum(tf.constant(0, tf.int64), -((room - context_lengths) // stride))
    nth = tf.ragged.range(counts)
    examples, starts = nth.value_rowids(), nth.flat_values * stride
    return Windows(
        examples, starts, tf.minimum(tf.gather(room, examples), tf.gather(context_lengths, examples) - starts)
    )


def window_inputs(
    questions: tf.RaggedTensor,
    contexts: tf.RaggedTensor,
    windows: Windows,
    tokenizer: WordPieceTokenizer,
    window_length: int,
) -> dict[str, tf.Tensor]:
    """Returns what an encoder reads of windows: `token_ids`, `padding_mask` and `segment_ids`, (W, T) int32 each.

    Args:
        questions: (W, None) int32, of each window.
        contexts: (C, None) int32.
        windows: `examples` says which context.
        tokenizer: gives [CLS], [SEP] and padding.
        window_length: as the windows were cut with.
    """
    import tensorflow as tf

    first = tf.gather(contexts.row_starts(), windows.examples) + windows.starts
    seen = tf.gather(contexts.flat_values, tf.ragged.range(first, first + windows.sizes))
    return segment_inputs(*join_segments(questions, seen, tokenizer, window_length), tokenizer.pad_id)
