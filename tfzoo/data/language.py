"""Documents to the batches that a language model is trained and evaluated on.

The way: documents -> token ids in memory (`documents.py`) -> the stream of each epoch, a function of (seed, epoch)
computed in graph -> windows of it. In the stream an end token stands before the first document and behind each.

With letters from id 4 (a = 4, b = 5, ...) and the end token 3, the documents "ab" and "cde" are in this order the
stream

    3 4 5 3 6 7 8 3

whose tokens but the first are the 7 labels of an epoch. The functions below go on with this example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from tfzoo.data.batches import fill_rows, over_epochs
from tfzoo.data.config import CausalLmDataConfig
from tfzoo.data.documents import Documents, tokenize_documents
from tfzoo.data.prepared import open_prepared, prepared_directory
from tfzoo.data.sharding import Shard
from tfzoo.data.streaming import Order
from tfzoo.errors import UsageError
from tfzoo.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

CausalLmBatch = tuple[dict[str, "tf.Tensor"], "tf.Tensor", "tf.Tensor"]


def causal_lm(
    specs: str | Sequence[str],
    tokenizer: Tokenizer,
    *,
    sequence_length: int = 256,
    batch_size: int = 32,
    examples: Literal["packed", "contiguous"] = "packed",
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    cleaning: Sequence[str] = (),
    static_shapes: bool = False,
    deterministic: bool = True,
    shard: Shard | None = None,
) -> tf.data.Dataset:
    """Returns batches of windows of the shuffled documents; all are read and tokenized in this call.

    Documents that `tfzoo prepare` tokenized ("prepared:DIR") are streamed, see `tfzoo.data.prepared`.

    A window may hold the end of one document and the beginning of the next; the end token between them tells (Radford
    et al., 2019). Every token of an epoch is a label exactly once. The order is a function of `seed` and the epoch
    alone, and every epoch has the same number of batches, so that step n lies in epoch n // num_batches.

    "packed" cuts the stream into windows of T labels, and T = 4, B = 2 gives one batch:

        token_ids [[3, 4, 5, 3], [6, 7, 8, 0]]
        labels    [[4, 5, 3, 6], [7, 8, 3, 0]]

    The last window of an epoch is padded, and the last batch has fewer rows unless the windows come out even.

    "contiguous" cuts the stream into B parts whose lengths differ by one token at most; each row of a batch goes on
    where the same row of the batch before ended, for a model that carries its state. T = 2, B = 2 gives two batches:

        token_ids [[3, 4], [3, 6]]    [[5, 0], [7, 8]]
        labels    [[4, 5], [6, 7]]    [[3, 0], [8, 3]]
        continues [0, 0]              [1, 1]

    All batches have B rows, and the last one of an epoch is padded.

    Args:
        specs: one data specification of one column or several, see `tfzoo.data.sources`; several are concatenated.
        tokenizer: gives the ids, the end token and the padding.
        sequence_length: T.
        batch_size: B.
        examples: "packed" or "contiguous".
        shuffle: False = the documents as they stand in the files.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        cleaning: names of steps that documents go through first, see `tfzoo.data.cleaning`.
        static_shapes: True = the last batch has B rows too, some of which weigh nothing.
        deterministic: False = batches may come in another order, as soon as they are ready; "packed" alone.
        shard: which part of every batch; None = all of it.

    Returns: a dataset of ({"token_ids": (B, T), "padding_mask": (B, T)}, labels (B, T)) in int32, and sample_weight
        (B, T) float32, both 1 for a real token and 0 for padding; with "contiguous" also "continues" (B,) int32, 0 in
        the first batch of an epoch. Its cardinality is known.

    Raises:
        UsageError: a number out of its range, an unknown name or specification, none, or one with a weight.
        DataError: missing or malformed data, or no document with a token in it.
    """
    import tensorflow as tf

    CausalLmDataConfig(  # checks the numbers
        examples=examples,
        sequence_length=sequence_length,
        batch_size=batch_size,
        cleaning=tuple(cleaning),
        seed=seed,
        deterministic=deterministic,
    )
    if examples == "prompt_answer":
        raise UsageError("`examples='prompt_answer'` is made of pairs; call `tfzoo.data.prompt_answer`.")
    if (directory := prepared_directory(specs)) is not None:
        from tfzoo.data.prepared_documents import prepared_windows

        if examples == "contiguous":
            raise UsageError(
                f"prepared:{directory} is streamed as whole documents, not from {batch_size} places at once as "
                "`examples='contiguous'` needs; use 'packed', or read the texts themselves."
            )
        return prepared_windows(
            open_prepared(directory, tokenizer, cleaning=tuple(cleaning)),
            Order(
                shuffle=shuffle,
                seed=seed,
                repeat=repeat,
                start_step=start_step,
                deterministic=deterministic,
                shard=shard or Shard(),
            ),
            sequence_length=sequence_length,
            batch_size=batch_size,
            static_shapes=static_shapes,
        )
    documents = tokenize_documents(specs, tokenizer, cleaning)
    num_windows = -(-documents.num_tokens // sequence_length)
    num_batches = -(-num_windows // batch_size)
    if examples == "contiguous":
        num_batches = -(-documents.num_tokens // (batch_size * sequence_length))

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        # The same tensors go with each batch of the epoch, not copies of them.
        order = tf.data.Dataset.from_tensors(_order(documents, shuffle, seed, epoch))
        return tf.data.Dataset.zip(tf.data.Dataset.range(num_batches), order.repeat())

    def example(batch: tf.Tensor, order: tuple[tf.Tensor, tf.Tensor]) -> CausalLmBatch:
        if examples == "packed":
            first = batch * batch_size
            starts = tf.range(first, tf.minimum(first + batch_size, num_windows)) * sequence_length
            limits = tf.fill(tf.shape(starts), tf.constant(documents.num_tokens, tf.int64))
        else:
            borders = tf.range(batch_size + 1, dtype=tf.int64) * documents.num_tokens // batch_size
            starts, limits = borders[:-1] + batch * sequence_length, borders[1:]
        inputs, labels, real = _windows(
            starts, limits, sequence_length, documents, tokenizer.pad_id, lambda positions: _places(positions, order)
        )
        if examples == "contiguous":
            inputs["continues"] = tf.fill([batch_size], tf.cast(batch > 0, tf.int32))
        return fill_rows((inputs, labels, real), batch_size) if static_shapes else (inputs, labels, real)

    batches = over_epochs(
        batches_of,
        example,
        num_batches=num_batches,
        repeat=repeat,
        start_step=start_step,
        deterministic=deterministic,
    )
    return shard.batches(batches) if shard else batches


def causal_lm_windows(
    specs: str | Sequence[str],
    tokenizer: Tokenizer,
    *,
    sequence_length: int = 256,
    stride: int | None = None,
    batch_size: int = 32,
    cleaning: Sequence[str] = (),
) -> tf.data.Dataset:
    """Returns overlapping windows of the documents as they stand in the files, to measure the perplexity on.

    Each window begins `stride` tokens behind the one before and scores its last `stride` labels; what stands before
    them is context, with weight 0. The first window scores all of its labels, so that every token is scored exactly
    once, and all but those of the first window behind at least T - stride others. Which windows share a batch changes
    nothing. T = 4, stride = 2 gives

        token_ids     [[3, 4, 5, 3], [5, 3, 6, 7], [6, 7, 8, 0]]
        labels        [[4, 5, 3, 6], [3, 6, 7, 8], [7, 8, 3, 0]]
        sample_weight [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]]

    Args:
        specs: one data specification of one column or several, see `tfzoo.data.sources`; several are concatenated.
        tokenizer: gives the ids, the end token and the padding.
        sequence_length: T.
        stride: tokens that a window is ahead of the one before, at most T; None = T // 2.
        batch_size: windows in a batch; the last batch may have fewer.
        cleaning: names of steps that documents go through first, see `tfzoo.data.cleaning`.

    Returns: a dataset of batches as `causal_lm` gives them, of known cardinality.

    Raises:
        UsageError: a number out of its range, an unknown name or specification, none, or one with a weight.
        DataError: missing or malformed data, or no document with a token in it.
    """
    import tensorflow as tf

    CausalLmDataConfig(  # checks the numbers
        sequence_length=sequence_length, stride=stride, batch_size=batch_size, cleaning=tuple(cleaning)
    )
    ahead = sequence_length // 2 if stride is None else stride
    if (directory := prepared_directory(specs)) is not None:
        from tfzoo.data.prepared_documents import prepared_overlapping_windows

        return prepared_overlapping_windows(
            open_prepared(directory, tokenizer, cleaning=tuple(cleaning)),
            sequence_length=sequence_length,
            stride=ahead,
            batch_size=batch_size,
        )
    documents = tokenize_documents(specs, tokenizer, cleaning)
    num_windows = 1 + max(0, -(-(documents.num_tokens - sequence_length) // ahead))
    num_batches = -(-num_windows // batch_size)

    def example(batch: tf.Tensor) -> CausalLmBatch:
        first = batch * batch_size
        starts = tf.range(first, tf.minimum(first + batch_size, num_windows)) * ahead
        limits = tf.fill(tf.shape(starts), tf.constant(documents.num_tokens, tf.int64))
        inputs, labels, real = _windows(
            starts, limits, sequence_length, documents, tokenizer.pad_id, lambda positions: positions
        )
        is_new = (tf.range(sequence_length) >= sequence_length - ahead) | (starts[:, tf.newaxis] == 0)
        return inputs, labels, real * tf.cast(is_new, tf.float32)

    return (
        tf.data.Dataset.range(num_batches)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _order(documents: Documents, shuffle: bool, seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (N,) where each document of an epoch's stream ends, and (N,) how far it was moved to get there."""
    import tensorflow as tf

    order = tf.range(tf.size(documents.lengths))
    if shuffle:
        order = tf.random.experimental.stateless_shuffle(order, tf.stack([tf.constant(seed, tf.int64), epoch]))
    lengths = tf.gather(documents.lengths, order)
    ends = tf.cumsum(lengths)
    return ends, ends - lengths - tf.gather(documents.starts, order)


def _places(positions: tf.Tensor, order: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Returns the indices into the documents' token ids of what stands at (B, T) positions of an epoch's stream."""
    import tensorflow as tf

    ends, moved = order
    documents = tf.searchsorted(ends, tf.reshape(positions, [-1]), side="right")
    return positions - tf.reshape(tf.gather(moved, documents), tf.shape(positions))


def _windows(
    starts: tf.Tensor,
    limits: tf.Tensor,
    sequence_length: int,
    documents: Documents,
    pad_id: int,
    places: Callable[[tf.Tensor], tf.Tensor],
) -> CausalLmBatch:
    """Returns rows whose labels are the tokens from `starts` (B,), below `limits` (B,); `places` finds a position."""
    import tensorflow as tf

    # The inputs begin one token before the labels. What stands behind the last document stands before the first one,
    # too: an end token.
    positions = (starts[:, tf.newaxis] - 1 + tf.range(sequence_length + 1, dtype=tf.int64)) % documents.num_tokens
    tokens = tf.gather(documents.token_ids, places(positions))
    is_real = tf.range(sequence_length, dtype=tf.int64) < (limits - starts)[:, tf.newaxis]
    inputs = {
        "token_ids": tf.where(is_real, tokens[:, :-1], pad_id),
        "padding_mask": tf.cast(is_real, tf.int32),
    }
    return inputs, tf.where(is_real, tokens[:, 1:], pad_id), tf.cast(is_real, tf.float32)
