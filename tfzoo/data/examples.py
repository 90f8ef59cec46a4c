"""Text to the features, labels and weights of a training example, in graph.

The input pipeline and the served signature call the same functions, so that a model is asked as it was trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfzoo.text.special_tokens import BERT_MASK, END_ID, PAD_ID, START_ID
from tfzoo.text.tokenizers import Tokenizer
from tfzoo.text.word_piece import WordPieceTokenizer

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
    return tf.concat([ids, tf.fill((ids.nrows(), 1), tokenizer.end_id)], axis=1)


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
    pad_id: int = PAD_ID,
    start_id: int = START_ID,
    end_id: int = END_ID,
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
        pad_id: of both sides.
        start_id: what the decoder starts from.
        end_id: of the target.

    Returns: ({"encoder_token_ids": (B, S), "decoder_token_ids": (B, T)} int32, labels (B, T) int32,
        sample_weight (B, T) float32, 1 for a real token and 0 for padding).
    """
    import tensorflow as tf

    def padded(ids: tf.RaggedTensor, length: int | tf.Tensor | None) -> tf.Tensor:
        return ids.to_tensor(default_value=pad_id, shape=None if length is None else tf.stack([-1, length]))

    column = (target_ids.nrows(), 1)
    labels = padded(tf.concat([target_ids, tf.fill(column, end_id)], axis=1), target_length)
    inputs = {
        "encoder_token_ids": padded(source_ids, source_length),
        "decoder_token_ids": padded(tf.concat([tf.fill(column, start_id), target_ids], axis=1), target_length),
    }
    real = tf.sequence_mask(target_ids.row_lengths() + 1, tf.shape(labels)[1], tf.float32)
    return inputs, labels, real


def encode_segments(
    text_a: tf.Tensor, text_b: tf.Tensor | None, tokenizer: WordPieceTokenizer, max_length: int
) -> dict[str, tf.Tensor]:
    """Tokenizes what an encoder reads: [CLS] a [SEP], or [CLS] a [SEP] b [SEP], as Hugging Face's BERT does.

    Too long a text loses its tail; of two the longer one does, until they are equally long, and then both, where the
    longer one, else the second, keeps an odd token. With [CLS] = 2, [SEP] = 3, "a" = 5, "b" = 6, ...:

        a = ["a b", "a b c d"], b = ["a", "a b c"], max_length=7  ->

        token_ids    [[2, 5, 6, 3, 5, 3, 0], [2, 5, 6, 3, 5, 6, 3]]
        padding_mask [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]
        segment_ids  [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1]]

    Args:
        text_a: (B,) string.
        text_b: (B,) string; None = one text.
        tokenizer: gives the ids, and [CLS], [SEP] and padding.
        max_length: most tokens, those three included; at least 2, or 3 for two texts.

    Returns: `token_ids`, `padding_mask` (1 = real) and `segment_ids`, (B, T) int32 each, T that of the longest row.
    """
    ids_b = None if text_b is None else tokenizer.tokenize(text_b)
    return segment_inputs(*join_segments(tokenizer.tokenize(text_a), ids_b, tokenizer, max_length), tokenizer.pad_id)


def encode_masked(strings: tf.Tensor, tokenizer: WordPieceTokenizer, max_length: int) -> dict[str, tf.Tensor]:
    """As `encode_segments` of one text, in which "[MASK]" is the mask token.

    Args:
        strings: (B,) string.
        tokenizer: gives the ids, [MASK] too.
        max_length: most tokens, [CLS] and [SEP] included.

    Returns: as `encode_segments`.
    """
    import tensorflow as tf

    parts = tf.strings.split(strings, BERT_MASK)
    part_ids = tokenizer.tokenize(parts.flat_values)
    part_ids = tf.concat([tf.fill([part_ids.nrows(), 1], tokenizer.mask_id), part_ids], axis=1)
    ids = parts.with_flat_values(part_ids).merge_dims(1, 2)[:, 1:]
    return segment_inputs(*join_segments(ids, None, tokenizer, max_length), tokenizer.pad_id)


def encode_words(
    strings: tf.Tensor, tokenizer: WordPieceTokenizer, max_length: int
) -> tuple[dict[str, tf.Tensor], tf.RaggedTensor, tf.RaggedTensor]:
    """As `encode_segments` of one text, with the words in it: what ASCII white space separates.

    With [CLS] = 2, [SEP] = 3, "a" = 5, "c" = 7, "##b" = 16:

        ["ab c"]  ->  token_ids [[2, 5, 16, 7, 3]], words [["ab", "c"]], positions [[1, 3]]

    Args:
        strings: (B,) string.
        tokenizer: gives the ids.
        max_length: most tokens, [CLS] and [SEP] included.

    Returns: the inputs; (B, W) string, the words; (B, W) int32, where in a row the first piece of each word stands, -1
        of a word that was cut off or has no piece.
    """
    import tensorflow as tf

    words = tf.strings.split(strings)
    ids, positions = join_words(words, tokenizer, max_length)
    inputs = segment_inputs(*join_segments(ids, None, tokenizer, max_length), tokenizer.pad_id)
    return inputs, words, positions


def join_words(
    words: tf.RaggedTensor, tokenizer: WordPieceTokenizer, max_length: int
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Returns (B, None) int32 ids of (B, W) words, and (B, W) int32 positions as `encode_words` does."""
    import tensorflow as tf

    pieces = tokenizer.tokenize(words.flat_values)
    lengths = pieces.row_lengths()
    before = tf.cumsum(lengths, exclusive=True)
    rows = words.with_flat_values(pieces).merge_dims(1, 2)
    positions = 1 + before - tf.gather(rows.row_starts(), words.value_rowids())  # [CLS] is before them
    has_place = (lengths > 0) & (positions < max_length - 1)
    return rows, words.with_flat_values(tf.cast(tf.where(has_place, positions, -1), tf.int32))


def join_segments(
    ids_a: tf.RaggedTensor, ids_b: tf.RaggedTensor | None, tokenizer: WordPieceTokenizer, max_length: int
) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Cuts and joins the ids of texts as `encode_segments` does.

    Returns: (B, None) int32, the ids with [CLS] and [SEP]; (B,) int64, how many of them belong to the first text.
    """
    import tensorflow as tf

    start, end = (tf.fill([ids_a.nrows(), 1], one) for one in (tokenizer.start_id, tokenizer.end_id))
    if ids_b is None:
        first = tf.concat([start, ids_a[:, : max_length - 2], end], axis=1)
        return first, first.row_lengths()
    lengths_a, lengths_b = ids_a.row_lengths(), ids_b.row_lengths()
    room = max_length - 3
    shorter = tf.minimum(tf.minimum(lengths_a, lengths_b), room // 2)
    longer = tf.minimum(tf.maximum(lengths_a, lengths_b), room - shorter)
    is_longer = lengths_a > lengths_b
    first = tf.concat([start, _heads(ids_a, tf.where(is_longer, longer, shorter)), end], axis=1)
    second = tf.concat([_heads(ids_b, tf.where(is_longer, shorter, longer)), end], axis=1)
    return tf.concat([first, second], axis=1), first.row_lengths()


def segment_inputs(ids: tf.RaggedTensor, first_lengths: tf.Tensor, pad_id: int) -> dict[str, tf.Tensor]:
    """Returns what an encoder reads of joined ids and the lengths of their first texts, padded to the longest row."""
    import tensorflow as tf

    token_ids = ids.to_tensor(pad_id)
    positions = tf.range(tf.shape(token_ids, tf.int64)[1])
    is_real = positions < ids.row_lengths()[:, tf.newaxis]
    is_second = is_real & (positions >= first_lengths[:, tf.newaxis])
    return {
        "token_ids": token_ids,
        "padding_mask": tf.cast(is_real, tf.int32),
        "segment_ids": tf.cast(is_second, tf.int32),
    }


def _heads(ids: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    import tensorflow as tf

    starts = ids.row_starts()
    return tf.gather(ids.flat_values, tf.ragged.range(starts, starts + lengths))
