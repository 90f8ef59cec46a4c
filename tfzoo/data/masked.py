"""Documents to the batches that an encoder is pretrained on (Devlin et al., 2019, section 3.1).

The way: documents -> token ids in memory (`documents.py`, `sentences.py`) -> rows -> tokens to predict (`masking.py`),
chosen anew in each epoch (Liu et al., 2019, section 4.1): a function of seed, epoch and row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfzoo.data.batches import sorted_batches
from tfzoo.data.config import MaskedLmDataConfig
from tfzoo.data.documents import tokenize_documents
from tfzoo.data.examples import segment_inputs
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.data.masking import NUM_NOISES, Masking
from tfzoo.data.prepared import open_prepared, prepared_directory
from tfzoo.data.sentences import tokenize_sentences
from tfzoo.data.sharding import Shard
from tfzoo.data.streaming import Order
from tfzoo.errors import UsageError
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import tensorflow as tf

MaskedLmBatch = tuple[dict[str, "tf.Tensor"], Any, Any]
# Rows and (B, 3) float64 noise -> (B, None) int32 token ids, (B,) int64 lengths of the first texts, (B,) int32 whether
# another text follows.
_Rows = Callable[["tf.Tensor", "tf.Tensor"], tuple["tf.RaggedTensor", "tf.Tensor", "tf.Tensor"]]


def masked_lm(
    specs: str | Sequence[str],
    tokenizer: WordPieceTokenizer,
    *,
    sequence_length: int = 128,
    batch_size: int = 32,
    mask_probability: float = 0.15,
    whole_word: bool = False,
    next_sentence: bool = False,
    cleaning: Sequence[str] = (),
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
    shard: Shard | None = None,
) -> tf.data.Dataset:
    """Returns batches of rows with tokens to predict; all documents are read and tokenized in this call.

    Documents that `tfzoo prepare` tokenized ("prepared:DIR") are streamed, see `tfzoo.data.streaming`.

    Without `next_sentence`, a row is [CLS], T - 2 tokens of one document, or what is left at its end, and [SEP]; every
    token of an epoch is in one row. With it, a row is [CLS] a [SEP] b [SEP]. As many sentences of a document as fit are
    cut in two at one of their borders, drawn anew in each epoch; the first part is a. One time in two, b is the second
    part; else it is as many tokens, from the beginning of a sentence of another document on, which is drawn among all
    sentences of other documents. That differs from the paper's program: where b comes from elsewhere, the sentences
    that it takes the place of wait for another epoch, b is no longer than they are, so that its length says nothing,
    and all rows are filled. `tfzoo.data.sentences` says where a sentence ends.

    `tfzoo.data.masking` chooses the tokens to predict. Rows of similar length share a batch, and every batch but the
    last of an epoch is full. Order, pairs and masks are a function of `seed` and the epoch alone.

    Args:
        specs: one data specification of one column or several, see `tfzoo.data.sources`; several are concatenated.
        tokenizer: gives the ids.
        sequence_length: T, most tokens of a row.
        batch_size: B.
        mask_probability: share of the tokens of a row that are to be predicted.
        whole_word: whether all pieces of a word are chosen together.
        next_sentence: whether the rows are pairs.
        cleaning: names of steps that documents go through first, see `tfzoo.data.cleaning`.
        shuffle: False = rows as they stand in the files, but sorted by length some batches at a time.
        seed: of order, pairs and masks.
        repeat: True = endless.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True = batches of few shapes, for XLA and TPU: T is the end of a bucket, and the last batch has B
            rows too, some of which weigh nothing; see `tfzoo.data.few_shapes`.
        shard: which part of every batch; None = all of it.

    Returns: a dataset of ({"token_ids", "padding_mask", "segment_ids"}, (B, T) int32 each, and "mask_positions" (B, M)
        int32; labels (B, M) int32; sample_weight (B, M) float32). M is the same in all batches: the most tokens that
        are chosen in a row of T. Rows with fewer are filled up with 0, which weighs 0. With `next_sentence`, labels are
        {"logits": those, "next_sentence_logits": (B,) int32, 0 where b follows a and 1 where it comes from elsewhere},
        and weights have the same keys. The dataset's cardinality is known.

    Raises:
        UsageError: a number out of its range, an unknown name or specification, none, or one with a weight; prepared
            documents and `next_sentence`.
        DataError: missing or malformed data, no document with a token in it, or too few sentences for pairs.
    """
    import tensorflow as tf

    MaskedLmDataConfig(  # checks the numbers
        sequence_length=sequence_length,
        batch_size=batch_size,
        mask_probability=mask_probability,
        whole_word=whole_word,
        cleaning=tuple(cleaning),
        seed=seed,
    )
    num_special = 3 if next_sentence else 2
    masking = Masking(
        tokenizer,
        probability=mask_probability,
        whole_word=whole_word,
        max_predictions=max(1, int(mask_probability * (sequence_length - num_special) + 0.5)),
    )

    def noise_of(epoch: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for_row = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), epoch]), row)
        for_pair, for_mask = tf.unstack(tf.random.split(for_row))
        return (
            tf.random.stateless_uniform([3], for_pair, dtype=tf.float64),
            tf.random.stateless_uniform([NUM_NOISES, sequence_length], for_mask, dtype=tf.float64),
        )

    def example(rows_of: _Rows, rows: tf.Tensor, epoch: tf.Tensor) -> MaskedLmBatch:
        pair_noise, mask_noise = tf.map_fn(
            lambda row: noise_of(epoch, row), rows, fn_output_signature=(tf.float64, tf.float64)
        )
        ids, first_lengths, is_other = rows_of(rows, pair_noise)
        inputs = segment_inputs(ids, first_lengths, tokenizer.pad_id)
        masked = masking(inputs["token_ids"], mask_noise[:, :, : tf.shape(inputs["token_ids"])[1]])
        inputs |= {"token_ids": masked.token_ids, "mask_positions": masked.positions}
        if not next_sentence:
            return inputs, masked.labels, masked.weights
        return (
            inputs,
            {"logits": masked.labels, "next_sentence_logits": is_other},
            {"logits": masked.weights, "next_sentence_logits": tf.ones(tf.shape(rows))},
        )

    if (directory := prepared_directory(specs)) is not None:
        from tfzoo.data.prepared_rows import prepared_rows

        if next_sentence:
            raise UsageError(
                f"prepared:{directory} is streamed, and `next_sentence` draws sentences from all over the corpus; do "
                "without, as Liu et al. (2019) did, or read the texts themselves."
            )

        def prepared_example(ids: tf.RaggedTensor, rows: tf.Tensor, epoch: tf.Tensor) -> MaskedLmBatch:
            return example(lambda *_: _one_text(ids, tokenizer), rows, epoch)

        return prepared_rows(
            open_prepared(directory, tokenizer, cleaning=tuple(cleaning)),
            Order(shuffle=shuffle, seed=seed, repeat=repeat, start_step=start_step, shard=shard or Shard()),
            row_tokens=sequence_length - num_special,
            batch_size=batch_size,
            static_shapes=static_shapes,
            example=prepared_example,
        )
    make = _pairs if next_sentence else _windows
    rows_of, lengths = make(specs, tokenizer, cleaning, sequence_length - num_special)
    batches = sorted_batches(
        functools.partial(example, rows_of),
        lengths,
        np.zeros(len(lengths), int),
        batch_size=batch_size,
        weights=None,
        shuffle=shuffle,
        seed=seed,
        repeat=repeat,
        start_step=start_step,
    )
    if static_shapes:
        batches = with_few_shapes(batches, num_rows=batch_size, max_length=sequence_length, pad_id=tokenizer.pad_id)
    return shard.batches(batches) if shard else batches


def _windows(
    specs: str | Sequence[str], tokenizer: WordPieceTokenizer, cleaning: Sequence[str], row_tokens: int
) -> tuple[_Rows, np.ndarray]:
    """Returns rows of one text, and the (R,) lengths of all."""
    import tensorflow as tf

    documents = tokenize_documents(specs, tokenizer, cleaning)
    num_tokens = documents.lengths.numpy() - 1  # without the end token
    num_rows = -(-num_tokens // row_tokens)
    index = np.arange(num_rows.sum()) - np.repeat(np.cumsum(num_rows) - num_rows, num_rows)  # within its document
    starts = np.repeat(documents.starts.numpy(), num_rows) + index * row_tokens
    lengths = np.minimum(np.repeat(num_tokens, num_rows) - index * row_tokens, row_tokens)
    with tf.device("CPU"):  # a tf.data pipeline runs there
        row_starts, row_lengths = tf.constant(starts, tf.int64), tf.constant(lengths, tf.int64)

    def rows_of(rows: tf.Tensor, noise: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
        first, length = tf.gather(row_starts, rows), tf.gather(row_lengths, rows)
        return _one_text(tf.gather(documents.token_ids, tf.ragged.range(first, first + length)), tokenizer)

    return rows_of, lengths + 2


def _pairs(
    specs: str | Sequence[str], tokenizer: WordPieceTokenizer, cleaning: Sequence[str], row_tokens: int
) -> tuple[_Rows, np.ndarray]:
    """Returns rows of two texts, and the (R,) greatest lengths of all."""
    import tensorflow as tf

    sentences = tokenize_sentences(specs, tokenizer, cleaning, row_tokens)
    num_sentences = tf.size(sentences.first_of_document, tf.int64)

    def start_of(index: tf.Tensor) -> tf.Tensor:
        return tf.gather(sentences.starts, index)

    def one_of(count: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        return tf.cast(noise * tf.cast(count, tf.float64), tf.int64)

    def rows_of(rows: tf.Tensor, noise: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
        is_other = noise[:, 0] >= 0.5
        start, limit = tf.gather(sentences.row_starts, rows), tf.gather(sentences.row_limits, rows)
        border = start + 1 + one_of(limit - start - 1, noise[:, 1])
        # Counted as if this document's sentences were not there.
        first, end = tf.gather(sentences.first_of_document, start), tf.gather(sentences.end_of_document, start)
        other = one_of(num_sentences - (end - first), noise[:, 2])
        other += tf.where(other >= first, end - first, 0)
        other_end = start_of(tf.gather(sentences.end_of_document, other))

        second = start_of(tf.where(is_other, other, border))
        length = start_of(limit) - start_of(border)
        length = tf.where(is_other, tf.minimum(length, other_end - second), length)
        text_a = tf.gather(sentences.token_ids, tf.ragged.range(start_of(start), start_of(border)))
        text_b = tf.gather(sentences.token_ids, tf.ragged.range(second, second + length))
        head = _enclosed(text_a, tokenizer, start=True)
        ids = tf.concat([head, _enclosed(text_b, tokenizer, start=False)], axis=1)
        return ids, head.row_lengths(), tf.cast(is_other, tf.int32)

    lengths = start_of(sentences.row_limits) - start_of(sentences.row_starts)
    return rows_of, lengths.numpy() + 3


def _one_text(ids: tf.RaggedTensor, tokenizer: WordPieceTokenizer) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
    """Returns what `_Rows` gives of rows of one text."""
    import tensorflow as tf

    ids = _enclosed(ids, tokenizer, start=True)
    return ids, ids.row_lengths(), tf.zeros([ids.nrows()], tf.int32)


def _enclosed(ids: tf.RaggedTensor, tokenizer: WordPieceTokenizer, *, start: bool) -> tf.RaggedTensor:
    import tensorflow as tf

    first, last = (tf.fill([ids.nrows(), 1], one) for one in (tokenizer.start_id, tokenizer.end_id))
    return tf.concat([first, ids, last] if start else [ids, last], axis=1)
