"""Text to the features, labels and weights of a training example, in graph.

The input pipeline and the served signature call the same functions, so that a model is asked as it was trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfzoo.text.special_tokens import END_ID, PAD_ID, START_ID
from tfzoo.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

Seq2SeqBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]


def encode_source(strings: tf.Tensor, tokenizer: Tokenizer, max_length: int) -> tf.RaggedTensor:
    """Tokenizes sources and appends the end token; a longer source loses its tail, never its end token.

    With letters from id 4 (a = 4, b = 5, ...) and max_length=3:

        ["ab", "abc", ""]  ->  [[4, 5, 3], [4, 5, 3], [3]]

    Args:
        strings: (B,) string.
        tokenizer: of the source side.
        max_length: most tokens, the end token included; at least 1.

    Returns: (B, None) int32.
    """
    import tensorflow as tf

    ids = tokenizer.tokenize(strings)[:, : max_length - 1]
    return tf.concat([ids, tf.fill((ids.nrows(), 1), END_ID)], axis=1)


def prompt_ids(strings: tf.Tensor, tokenizer: Tokenizer) -> tf.RaggedTensor:
    """Returns the (B, None) int32 ids of (B,) prompts; one without a token is the end token, as before a document."""
    import tensorflow as tf

    ids = tokenizer.tokenize(strings)
    is_empty = tf.cast(ids.row_lengths() == 0, tf.int64)
    ends = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(is_empty)], tokenizer.end_id), is_empty)
    return tf.concat([ends.with_row_splits_dtype(ids.row_splits.dtype), ids], axis=1)


def encode_prompt(strings: tf.Tensor, tokenizer: Tokenizer, max_length: int | tf.Tensor) -> dict[str, tf.Tensor]:
    """Tokenizes prompts; an empty one is the end token, as before a document; a longer one loses its head.

    With letters from id 4 (a = 4, b = 5, ...), end token 3, padding 0 and max_length=2:

        ["b", "abc", ""]  ->  token_ids [[5, 0], [5, 6], [3, 0]], padding_mask [[1, 0], [1, 1], [1, 0]]

    Args:
        strings: (B,) string.
        tokenizer: of prompt and answer.
        max_length: most tokens, at least 1; or (B,) int32, one number for each row.

    Returns: `token_ids` (B, P) int32 and `padding_mask` (B, P) int32, 1 = real.
    """
    import tensorflow as tf

    ids = prompt_ids(strings, tokenizer)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    kept = tf.minimum(lengths, max_length)
    mask = tf.sequence_mask(kept)  # (B, P)
    places = tf.where(mask, (lengths - kept)[:, tf.newaxis] + tf.range(tf.shape(mask)[1]), 0)
    token_ids = tf.gather(ids.to_tensor(tokenizer.pad_id), places, batch_dims=1)
    return {"token_ids": tf.where(mask, token_ids, tokenizer.pad_id), "padding_mask": tf.cast(mask, tf.int32)}


def seq2seq_example(
    source_ids: tf.RaggedTensor,
    target_ids: tf.RaggedTensor,
    *,
    source_length: int | tf.Tensor | None = None,
    target_length: int | tf.Tensor | None = None,
) -> Seq2SeqBatch:
    """Shifts the target by one token, and pads every row to the longest.

        source_ids [[4, 5, 3], [6, 3]] and target_ids [[7], [8, 9]]  ->

        encoder_token_ids [[4, 5, 3], [6, 3, 0]]
        decoder_token_ids [[2, 7, 0], [2, 8, 9]]
        labels            [[7, 3, 0], [8, 9, 3]]
        sample_weight     [[1, 1, 0], [1, 1, 1]]

    Args:
        source_ids: (B, None) int32, as `encode_source` gives them.
        target_ids: (B, None) int32, without start and end token.
        source_length: S to pad the source to; None = the longest row.
        target_length: T to pad the target to, its start or end token included; None = the longest row.

    Returns: ({"encoder_token_ids": (B, S), "decoder_token_ids": (B, T)} int32, labels (B, T) int32,
        sample_weight (B, T) float32, 1 for a real token and 0 for padding).
    """
    import tensorflow as tf

    def padded(ids: tf.RaggedTensor, length: int | tf.Tensor | None) -> tf.Tensor:
        return ids.to_tensor(default_value=PAD_ID, shape=None if length is None else tf.stack([-1, length]))

    column = (target_ids.nrows(), 1)
    labels = padded(tf.concat([target_ids, tf.fill(column, END_ID)], axis=1), target_length)
    inputs = {
        "encoder_token_ids": padded(source_ids, source_length),
        "decoder_token_ids": padded(tf.concat([tf.fill(column, START_ID), target_ids], axis=1), target_length),
    }
    real = tf.sequence_mask(target_ids.row_lengths() + 1, tf.shape(labels)[1], tf.float32)
    return inputs, labels, real
