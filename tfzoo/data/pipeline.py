"""Data specifications to a `tf.data.Dataset` of padded batches.

The way: records -> token ids in memory (`corpus.py`) -> the batches of each epoch (`batches.py`) -> examples
(`examples.py`) -> padded batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfzoo.data.batches import BatchPlan, over_epochs
from tfzoo.data.config import DataConfig
from tfzoo.data.corpus import tokenize
from tfzoo.data.examples import Seq2SeqBatch, seq2seq_example
from tfzoo.data.sources import weight
from tfzoo.errors import DataError, UsageError
from tfzoo.text.pairs import TokenizerPair, pair
from tfzoo.text.special_tokens import END_ID, PAD_ID, START_ID
from tfzoo.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf


def seq2seq(
    specs: str | Sequence[str],
    tokenizer: Tokenizer | tuple[Tokenizer, Tokenizer] | TokenizerPair,
    *,
    batch_tokens: int = 4096,
    batch_size: int | None = None,
    max_source_length: int = 256,
    max_target_length: int = 256,
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Returns batches of (source, target) examples; all records are read and tokenized in this call.

    The order is a function of `seed` and the epoch alone, so that iterating twice gives the same batches. To train for
    several epochs, each in its own order, use `repeat=True` and give `fit` its `steps_per_epoch`.

    Args:
        specs: one data specification or several, see `tfzoo.data.sources`. Several are concatenated; if one has a
            weight ("tsv:news.tsv@0.3"), they are mixed by their weights, 1 where none is given.
        tokenizer: a shared one, (source, target), or a pair.
        batch_tokens: most tokens in a batch of sources and in a batch of targets, padding included.
        batch_size: examples in a batch; wins over `batch_tokens` when given.
        max_source_length: longest source in tokens, the end token included; longer examples are left out, and their
            number is logged.
        max_target_length: the same for the target.
        shuffle: False = by length, examples of one bucket as they stand in the files.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True pads to the length of the bucket and leaves out batches that are not full, so that there are
            few shapes (for XLA and TPU).

    Returns: a dataset of ({"encoder_token_ids": (B, S), "decoder_token_ids": (B, T)}, labels (B, T)) in int32, padded
        with 0, and sample_weight (B, T) float32, as `seq2seq_example` makes them. Its cardinality is known.

    Raises:
        UsageError: a number out of its range, an unknown specification, or none; a tokenizer with other special ids.
        DataError: missing or malformed data, or no example that is short enough.
    """
    import tensorflow as tf

    DataConfig(  # checks the numbers
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        max_source_length=max_source_length,
        max_target_length=max_target_length,
        seed=seed,
    )
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = [weight(spec) for spec in specs]
    tokenizers = pair(tokenizer)
    for side in (tokenizers.source, tokenizers.target):
        ids = (side.pad_id, side.start_id, side.end_id)
        if ids != (PAD_ID, START_ID, END_ID):
            raise UsageError(
                f"`tokenizer` must pad, start and end with the ids {PAD_ID}, {START_ID} and {END_ID}; received a "
                f"{type(side).__name__} with {', '.join(map(str, ids))}. Use the tokenizer source 'sentencepiece', "
                "'characters', 'symbols' or 'word_piece' (one that was trained here)."
            )
    corpus = tokenize(specs, tokenizers, max_source_length=max_source_length, max_target_length=max_target_length)
    plan = BatchPlan(
        corpus.lengths(),
        corpus.origins,
        max_length=max(max_source_length, max_target_length),
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        weights=None if weights == [None] * len(specs) else [1.0 if one is None else one for one in weights],
        shuffle=shuffle,
        seed=seed,
        drop_remainder=static_shapes,
    )
    if not plan.num_batches:
        raise DataError(
            f"`static_shapes` leaves out batches that are not full, and {len(corpus.origins)} examples fill none; give "
            "more data or a smaller `batch_tokens` or `batch_size`."
        )

    def example(indices: tf.Tensor) -> Seq2SeqBatch:
        lengths = {}
        if static_shapes:
            length = plan.padded_length(indices)
            lengths["source_length"] = tf.minimum(length, max_source_length)
            lengths["target_length"] = tf.minimum(length, max_target_length)
        return seq2seq_example(tf.gather(corpus.source_ids, indices), tf.gather(corpus.target_ids, indices), **lengths)

    return over_epochs(
        lambda epoch: tf.data.Dataset.from_tensor_slices(plan.batches(epoch)),
        example,
        num_batches=plan.num_batches,
        repeat=repeat,
        start_step=start_step,
    )
