"""Pairs of prompt and answer to the batches that a language model learns to answer on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from tfzoo.data.batches import BatchPlan, over_epochs
from tfzoo.data.config import CausalLmDataConfig
from tfzoo.data.corpus import chunks
from tfzoo.data.examples import prompt_ids
from tfzoo.data.few_shapes import with_few_shapes
from tfzoo.data.language import CausalLmBatch
from tfzoo.data.sources import mixture, read
from tfzoo.errors import DataError, UsageError
from tfzoo.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """N pairs as token ids: (N, None) int32, the end token included, and (N,) int64, tokens before each answer."""

    token_ids: tf.RaggedTensor
    prompt_lengths: tf.Tensor
    origins: np.ndarray


def prompt_answer(
    specs: str | Sequence[str],
    tokenizer: Tokenizer,
    *,
    sequence_length: int = 256,
    batch_size: int = 32,
    separator: str = "\n",
    shuffle: bool = True,
    seed: int = 0,
    repeat: bool = False,
    start_step: int = 0,
    static_shapes: bool = False,
) -> tf.data.Dataset:
    """Returns batches of pairs; the answer and the end token behind it alone are scored.

    A row is prompt and separator, tokenized together as they are when the trained model is asked, the answer and the
    end token; nothing stands before the prompt, but the end token where prompt and separator have no token at all.
    Rows of similar length share a batch. All pairs are read and tokenized in this call; the order is a function of
    `seed` and the epoch alone.

    With a = 4, b = 5, c = 6, "=" = 7, the end token 3 and separator="=", the pairs ("ab", "c") and ("c", "a") give

        token_ids     [[4, 5, 7, 6], [6, 7, 4, 0]]
        labels        [[5, 7, 6, 3], [7, 4, 3, 0]]
        sample_weight [[0, 0, 1, 1], [0, 1, 1, 0]]

    Args:
        specs: one data specification of (prompt, answer) pairs or several, see `tfzoo.data.sources`. Several are
            concatenated; if one has a weight ("tsv:dialogue.tsv@0.3"), they are mixed by their weights, 1 where none
            is given.
        tokenizer: gives the ids, the end token and the padding.
        sequence_length: most tokens in a row; longer pairs are left out, and their number is logged.
        batch_size: pairs in a batch; the last batch of each range of lengths may have fewer.
        separator: text between prompt and answer.
        shuffle: False = by length, pairs of similar length as they stand in the files.
        seed: of the order.
        repeat: True = endless, each epoch in an order of its own.
        start_step: batches to skip, without computing them: the rest equals that of an uninterrupted run.
        static_shapes: True = batches of few shapes, for XLA and TPU: T is the end of a bucket, and all batches have
            B rows, some of which weigh nothing; see `tfzoo.data.few_shapes`.

    Returns: a dataset of ({"token_ids": (B, T), "padding_mask": (B, T)}, labels (B, T)) in int32, and sample_weight
        (B, T) float32. T is the longest row of the batch, the others are padded on the right. Its cardinality is
        known.

    Raises:
        UsageError: a number out of its range, an unknown specification or none, or a separator that the tokenizer
            drops.
        DataError: missing or malformed data, or no pair that is short enough.
    """
    import tensorflow as tf

    CausalLmDataConfig(  # checks the numbers
        examples="prompt_answer",
        sequence_length=sequence_length,
        batch_size=batch_size,
        separator=separator,
        seed=seed,
    )
    if separator and not tokenizer.encode(separator):
        raise UsageError(
            f"`separator` must have a token of its own; received separator={separator!r}, which the "
            f"{type(tokenizer).__name__} drops. Use a printable one, such as separator=' = '."
        )
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    weights = mixture(specs)
    pairs = _tokenize(specs, tokenizer, separator, sequence_length)
    plan = BatchPlan(
        pairs.token_ids.row_lengths().numpy() - 1,
        pairs.origins,
        max_length=sequence_length,
        batch_tokens=sequence_length * batch_size,
        batch_size=batch_size,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=False,
    )

    def example(indices: tf.Tensor) -> CausalLmBatch:
        ids = tf.gather(pairs.token_ids, indices)
        token_ids = ids[:, :-1].to_tensor(tokenizer.pad_id)
        positions = tf.range(tf.shape(token_ids, tf.int64)[1])
        is_real = positions < ids.row_lengths()[:, tf.newaxis] - 1
        is_answer = positions >= tf.gather(pairs.prompt_lengths, indices)[:, tf.newaxis] - 1
        inputs = {"token_ids": token_ids, "padding_mask": tf.cast(is_real, tf.int32)}
        return inputs, ids[:, 1:].to_tensor(tokenizer.pad_id), tf.cast(is_real & is_answer, tf.float32)

    batches = over_epochs(
        lambda epoch: tf.data.Dataset.from_tensor_slices(plan.batches(epoch)),
        example,
        num_batches=plan.num_batches,
        repeat=repeat,
        start_step=start_step,
    )
    if not static_shapes:
        return batches
    return with_few_shapes(
        batches, num_rows=batch_size, max_length=sequence_length, pad_id=tokenizer.pad_id, label_pad_id=tokenizer.pad_id
    )


def _tokenize(specs: Sequence[str], tokenizer: Tokenizer, separator: str, sequence_length: int) -> _Pairs:
    """Reads and tokenizes all pairs of all specifications; those that are too long are left out and counted."""
    import tensorflow as tf

    from tfzoo.text.ragged import kept_rows

    values, row_lengths, prompt_lengths, kept_of_spec = [], [], [], []
    for spec in specs:
        num_read = num_kept = 0
        for chunk in chunks(read(spec)):
            prompts, answers = zip(*chunk, strict=True)
            asked = prompt_ids(tf.constant([prompt + separator for prompt in prompts]), tokenizer)
            end_ids = tf.fill([len(chunk), 1], tokenizer.end_id)
            ids = tf.concat([asked, tokenizer.tokenize(tf.constant(answers)), end_ids], axis=1)
            is_short = ids.row_lengths() <= sequence_length + 1  # the first token is no label
            ids = kept_rows(ids, is_short)
            values.append(ids.flat_values.numpy())
            row_lengths.append(ids.row_lengths().numpy())
            prompt_lengths.append(tf.boolean_mask(asked.row_lengths(), is_short).numpy())
            num_read += len(chunk)
            num_kept += len(row_lengths[-1])
        limit = f"sequence_length={sequence_length}"
        logging.info("%s: %d pairs; %d longer than %s left out.", spec, num_kept, num_read - num_kept, limit)
        if not num_kept:
            raise DataError(f"{spec}: each of its {num_read} pairs is longer than {limit} tokens; raise it.")
        kept_of_spec.append(num_kept)
    with tf.device("CPU"):  # a tf.data pipeline runs there
        return _Pairs(
            tf.RaggedTensor.from_row_lengths(np.concatenate(values), np.concatenate(row_lengths), validate=False),
            tf.constant(np.concatenate(prompt_lengths), tf.int64),
            np.repeat(np.arange(len(specs)), kept_of_spec),
        )
