"""Batches of few shapes, for XLA and TPUs: as long as the bucket of their longest row, and all of as many rows.

What is added weighs nothing: padding behind a row's tokens, and the first row again until there are enough. So no
example is left out, and none counts twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfzoo.data.batches import bucket_boundaries, fill_rows

if TYPE_CHECKING:
    import tensorflow as tf

_BY_TOKEN = ("token_ids", "padding_mask", "segment_ids")


def with_few_shapes(
    dataset: tf.data.Dataset, *, num_rows: int, max_length: int, pad_id: int, label_pad_id: int | None = None
) -> tf.data.Dataset:
    """Returns the batches of a dataset as `fill_up` fills them up, which has the other arguments."""
    import tensorflow as tf

    def fixed(*batch: Any) -> Any:
        return fill_up(batch, num_rows=num_rows, max_length=max_length, pad_id=pad_id, label_pad_id=label_pad_id)

    return dataset.map(fixed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def fill_up(batch: Any, *, num_rows: int, max_length: int, pad_id: int, label_pad_id: int | None = None) -> Any:
    """Fills a batch up to `num_rows` rows of a length of `bucket_boundaries(max_length)`.

    Where the buckets end at 8, 10 and 12, a batch of two rows of 9 tokens becomes for `num_rows=3` one of three rows of
    10 tokens, the last of which are padding; the third row is the first again, and its weight is 0.

    Args:
        batch: (inputs, labels, sample_weight); `token_ids`, `padding_mask` and `segment_ids` of the inputs are (B, T),
            and whatever else there is begins with B.
        num_rows: at least B.
        max_length: at least T.
        pad_id: token id of padding.
        label_pad_id: label of padding, where labels and weights are (B, T), too; None = they are not.
    """
    import tensorflow as tf

    inputs, labels, sample_weight = batch
    boundaries = tf.constant(bucket_boundaries(max_length))
    longest = tf.shape(inputs["token_ids"])[1]
    missing = boundaries[tf.searchsorted(boundaries, longest[tf.newaxis])[0]] - longest

    def pad(rows: tf.Tensor, value: int = 0) -> tf.Tensor:
        return tf.pad(rows, [[0, 0], [0, missing]], constant_values=value)

    padded = {name: pad(inputs[name], pad_id if name == "token_ids" else 0) for name in _BY_TOKEN if name in inputs}
    if label_pad_id is not None:
        labels, sample_weight = pad(labels, label_pad_id), pad(sample_weight)
    return fill_rows((inputs | padded, labels, sample_weight), num_rows)
