"""Data specifications to a `tf.data.Dataset` of padded batches.

The way: records -> token ids in memory (`corpus.py`) -> the batches of each epoch (`batches.py`) -> examples
(`examples.py`) -> padded batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfzoo.data.batches import BatchPlan, over_epochs, weights_by_size
from tfzoo.data.config import DataConfig, NoiseKind
from tfzoo.data.corpus import tokenize
from tfzoo.data.examples import Seq2SeqBatch, seq2seq_example
from tfzoo.data.noise import Damage
from tfzoo.data.prepared import open_prepared, prepared_directory
from tfzoo.data.sharding import Shard
from tfzoo.data.sources import mixture
from tfzoo.data.streaming import Order
from tfzoo.errors import DataError, UsageError
from tfzoo.text.pairs import TokenizerPair, pair
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
    temperature: float | None = None,
    is_reversed: bool = False,
    noise: NoiseKind | None = None,
    noise_probability: float = 0.3,
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    cleaning: Sequence[str] = (),
    static_shapes: bool = False,
    deterministic: bool = True,
    shard: Shard | None = None,
) -> tf.data.Dataset:
    """Returns batches of (source, target) examples; all records are read and tokenized in this call.

    Pairs that `tfzoo prepare` tokenized ("prepared:DIR") are streamed, see `tfzoo.data.prepared`.

    Order and noise are a function of `seed` and the epoch alone, so that iterating twice gives the same batches. To
    train for several epochs, each in its own order, use `repeat=True` and give `fit` its `steps_per_epoch`.

    Args:
        specs: one data specification or several, see `tfzoo.data.sources`. Several are concatenated; if one has a
            weight ("tsv:news.tsv@0.3"), they are mixed by their weights, 1 where none is given.
        tokenizer: a shared one, (source, target), or a pair.
        batch_tokens: most tokens in a batch of sources and in a batch of targets, padding included.
        batch_size: examples in a batch; wins over `batch_tokens` when given.
        max_source_length: longest source in tokens, the end token included; longer examples are left out, and their
            number is logged.
        max_target_length: the same for the target.
        temperature: mixes them by their sizes instead, n ** (1 / temperature) for n examples that are short enough; the
            log says the shares.
        is_reversed: whether the second column is the source.
        noise: "masking", "deletion" or "infilling", see `tfzoo.data.noise`: specifications are then of one column, the
            target is the text and the source the text with noise. The mask is the tokenizer's own, or the unknown
            token.
        noise_probability: share in (0, 1) of a text's tokens that the noise hits.
        shuffle: False = by length, examples of one bucket as they stand in the files.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        cleaning: names of steps that the texts go through first, see `tfzoo.data.cleaning`.
        static_shapes: True pads to the length of the bucket and leaves out batches that are not full, so that there are
            few shapes (for XLA and TPU). Of prepared pairs, they are filled up with rows that weigh nothing.
        deterministic: False = batches may come in another order, as soon as they are ready.
        shard: which part of every batch; None = all of it.

    Returns: a dataset of ({"encoder_token_ids": (B, S), "decoder_token_ids": (B, T)}, labels (B, T)) in int32, padded
        with the tokenizer's id, and sample_weight (B, T) float32, as `seq2seq_example` makes them. Its cardinality is
        known.

    Raises:
        UsageError: a number out of its range, an unknown specification, or none; a tokenizer whose special ids do not
            tell padding from text, or differ between the sides.
        DataError: missing or malformed data, or no example that is short enough.
    """
    import tensorflow as tf

    DataConfig(  # checks the numbers
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        max_source_length=max_source_length,
        max_target_length=max_target_length,
        temperature=temperature,
        reversed=is_reversed,
        noise=noise,
        noise_probability=noise_probability,
        cleaning=tuple(cleaning),
        seed=seed,
    )
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = mixture(specs)
    if weights is not None and temperature is not None:
        raise UsageError(
            "a weight behind a specification and `temperature`, which weighs by size, exclude each other; received "
            f"{', '.join(specs)} and temperature={temperature}. Leave one of them out."
        )
    tokenizers = pair(tokenizer)
    special = check_special_ids(tokenizers)
    if (directory := prepared_directory(specs)) is not None:
        from tfzoo.data.prepared_pairs import prepared_pairs

        limits = {
            "max_source_length": max_source_length,
            "max_target_length": max_target_length,
            "reversed": is_reversed,
            "noise": noise,
            "cleaning": tuple(cleaning),
        }
        return prepared_pairs(
            open_prepared(directory, tokenizers, **limits),
            Order(
                shuffle=shuffle,
                seed=seed,
                repeat=repeat,
                start_step=start_step,
                deterministic=deterministic,
                shard=shard or Shard(),
            ),
            batch_tokens=batch_tokens,
            batch_size=batch_size,
            temperature=temperature,
            static_shapes=static_shapes,
            special=special,
        )
    corpus = tokenize(
        specs,
        tokenizers,
        max_source_length=max_source_length,
        max_target_length=max_target_length,
        is_reversed=is_reversed,
        one_column=noise is not None,
        cleaning=cleaning,
    )
    if temperature is not None:
        weights = weights_by_size(specs, np.bincount(corpus.origins), temperature)
    plan = BatchPlan(
        corpus.lengths(),
        corpus.origins,
        max_length=max(max_source_length, max_target_length),
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=static_shapes,
    )
    if not plan.num_batches:
        raise DataError(
            f"`static_shapes` leaves out batches that are not full, and {len(corpus.origins)} examples fill none; give "
            "more data or a smaller `batch_tokens` or `batch_size`."
        )

    damage = None
    if noise is not None:
        damage = Damage(
            noise, tokenizers.source, probability=noise_probability, max_length=max_source_length, seed=seed
        )

    def example(indices: tf.Tensor, epoch: tf.Tensor) -> Seq2SeqBatch:
        lengths = {}
        if static_shapes:
            length = plan.padded_length(indices)
            lengths["source_length"] = tf.minimum(length, max_source_length)
            lengths["target_length"] = tf.minimum(length, max_target_length)
        source_ids = tf.gather(corpus.source_ids, indices)
        if damage is not None:
            source_ids = damage(source_ids, indices, epoch)
        return seq2seq_example(source_ids, tf.gather(corpus.target_ids, indices), **lengths, **special)

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = tf.data.Dataset.from_tensor_slices(plan.batches(epoch))
        return tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensors(epoch).repeat())

    batches = over_epochs(
        batches_of,
        example,
        num_batches=plan.num_batches,
        repeat=repeat,
        start_step=start_step,
        deterministic=deterministic,
    )
    return shard.batches(batches) if shard else batches


def check_special_ids(tokenizers: TokenizerPair) -> dict[str, int]:
    """Returns the ids of padding, start and end, as `seq2seq_example` takes them.

    Raises:
        UsageError: they do not tell padding from text, or differ between the sides.
    """
    ids = [(side.pad_id, side.start_id, side.end_id) for side in (tokenizers.source, tokenizers.target)]
    for side in (tokenizers.source, tokenizers.target):
        if side.pad_id == side.end_id:
            raise UsageError(
                f"`tokenizer` must pad and end with two ids, since padding is read from the ids; received a "
                f"{type(side).__name__} with {side.pad_id} for both. Use the tokenizer source 'sentencepiece', "
                "'characters', 'symbols' or 'word_piece'."
            )
    if ids[0] != ids[1]:
        raise UsageError(
            "`tokenizer` must have the same ids for padding, start and end on both sides; received "
            f"{', '.join(map(str, ids[0]))} for the source and {', '.join(map(str, ids[1]))} for the target."
        )
    return dict(zip(("pad_id", "start_id", "end_id"), ids[1], strict=True))
