"""Shares of global batches: disjoint, together everything, and even by rows that count for nothing."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.data.sharding import Shard
from tfzoo.errors import DataError, UsageError


def batches(*sizes: int, static: bool = False) -> tf.data.Dataset:
    """Batches of rows 10, 11, 12 ...: an input (B, 3), a label and a weight each."""
    ends = np.cumsum(sizes)

    def rows(start, end):
        row = tf.range(start, end) + 10
        return {"token_ids": tf.stack([row] * 3, axis=1)}, {"label": -row}, {"label": tf.cast(row, tf.float32)}

    dataset = tf.data.Dataset.from_tensor_slices((ends - sizes, ends)).map(rows)
    if static:
        dataset = dataset.unbatch().batch(sizes[0], drop_remainder=True)
    return dataset


def taken(dataset: tf.data.Dataset) -> list[tuple[list[int], list[float]]]:
    """The labels and weights of each batch, after a check that inputs go with them."""
    found = []
    for inputs, labels, weights in dataset.as_numpy_iterator():
        assert (inputs["token_ids"] == -labels["label"][:, np.newaxis]).all()
        found.append(((-labels["label"]).tolist(), weights["label"].tolist()))
    return found


def test_the_docstrings_example():
    shares = [Shard(index=index, count=2, num_devices=2) for index in range(2)]
    first, second = (taken(share.batches(batches(8, 5))) for share in shares)
    assert [rows for rows, _ in first] == [[10, 11], [12, 13], [18, 19], [20, 21]]
    assert [rows for rows, _ in second] == [[14, 15], [16, 17], [22, 18], [18, 18]]
    assert [weights for _, weights in second] == [[14, 15], [16, 17], [22, 0], [0, 0]]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_what_counts_is_the_whole_batch_in_its_order(count, num_devices):
    shares = [taken(Shard(index=i, count=count, num_devices=num_devices).batches(batches(5, 2))) for i in range(count)]
    for batch, expected in enumerate([[10, 11, 12, 13, 14], [15, 16]]):
        parts = [part for share in shares for part in share[batch * num_devices : (batch + 1) * num_devices]]
        assert len({len(rows) for rows, _ in parts}) == 1
        counted = [row for rows, weights in parts for row, weight in zip(rows, weights, strict=True) if weight]
        assert counted == expected


def test_one_device_takes_the_dataset_as_it_is():
    dataset = batches(5)
    assert Shard().batches(dataset) is dataset


def test_static_shapes_stay_static():
    shares = Shard(index=1, count=2, num_devices=2).batches(batches(6, static=True))
    inputs, labels, weights = shares.element_spec
    assert inputs["token_ids"].shape == (2, 3)
    assert labels["label"].shape == weights["label"].shape == (2,)
    assert [rows for rows, _ in taken(shares)] == [[14, 15], [10, 10]]


def test_batch_size():
    assert Shard(index=1, count=2, num_devices=3).batch_size(24) == 12
    with pytest.raises(UsageError) as caught:
        Shard(index=1, count=2, num_devices=3).batch_size(20)
    assert str(caught.value) == (
        "`batch_size` counts the rows of all 6 devices together and must be a multiple of their number; received "
        "batch_size=20."
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, "`count` must be at least 1; received count=0."),
        ({"num_devices": 0}, "`num_devices` must be at least 1; received num_devices=0."),
        (
            {"index": 2, "count": 2},
            "`index` must be at least 0 and below `count`; received index=2, count=2.",
        ),
    ],
)
def test_numbers_out_of_range(fields, message):
    with pytest.raises(UsageError) as caught:
        Shard(**fields)
    assert str(caught.value) == message


def test_batches_without_weights_are_refused():
    dataset = tf.data.Dataset.from_tensors((tf.zeros((4, 3)), tf.zeros(4)))
    with pytest.raises(DataError, match=r"must yield \(inputs, labels, sample_weight\)"):
        Shard(count=2).batches(dataset)
