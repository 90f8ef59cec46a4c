"""The plan of an epoch: every example once, batches of similar length, shares of a mixture."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.data.batches import BatchPlan, bucket_boundaries, fill_rows

LENGTHS = np.random.default_rng(0).integers(1, 31, 500)


def _plan(lengths=LENGTHS, origins=None, **changed):
    options = {
        "max_length": 30,
        "batch_tokens": 90,
        "batch_size": None,
        "weights": None,
        "shuffle": True,
        "seed": 5,
        "drop_remainder": False,
    }
    origins = np.zeros(len(lengths), int) if origins is None else origins
    return BatchPlan(lengths, origins, **{**options, **changed})


def _batches(plan, epoch):
    return plan.batches(tf.constant(epoch, tf.int64)).to_list()


@pytest.mark.parametrize(
    ("max_length", "boundaries"),
    [
        (5, [5]),
        (8, [8]),
        (9, [8, 9]),
        (30, [8, 10, 12, 14, 16, 20, 24, 28, 30]),
        (256, [8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256]),
    ],
)
def test_boundaries_grow_by_at_most_a_quarter(max_length, boundaries):
    assert bucket_boundaries(max_length) == boundaries


def test_without_shuffling_the_plan_is_plain():
    # Buckets end at 8, 10 and 12 tokens; 24 tokens hold 3, 2 and 2 examples of them.
    plan = _plan(np.array([9, 3, 12, 8, 1, 10, 7, 11]), max_length=12, batch_tokens=24, shuffle=False)
    assert plan.num_batches == 4
    assert _batches(plan, 0) == [[1, 3, 4], [6], [0, 5], [2, 7]]
    assert _batches(plan, 1) == _batches(plan, 0)
    assert plan.padded_length(tf.constant([2, 7])).numpy() == 12
    full = _plan(
        np.array([9, 3, 12, 8, 1, 10, 7, 11]), max_length=12, batch_tokens=24, shuffle=False, drop_remainder=True
    )
    assert _batches(full, 0) == [[1, 3, 4], [0, 5], [2, 7]]


@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"shuffle": False}], ids=str)
def test_an_epoch_holds_every_example_once(options):
    plan = _plan(**options)
    for epoch in (0, 1, 7):
        batches = _batches(plan, epoch)
        assert len(batches) == plan.num_batches
        assert sorted(index for batch in batches for index in batch) == list(range(500))


def test_a_batch_holds_at_most_batch_tokens():
    sizes = [max(LENGTHS[batch]) * len(batch) for batch in _batches(_plan(), 0)]
    assert max(sizes) <= 90
    assert np.mean(sizes) > 60


def test_batch_size_wins_over_batch_tokens():
    sizes = collections.Counter(len(batch) for batch in _batches(_plan(batch_size=7), 0))
    assert max(sizes) == 7
    assert sum(count for size, count in sizes.items() if size < 7) <= len(bucket_boundaries(30))


def test_a_batch_is_of_one_bucket():
    boundaries = bucket_boundaries(30)
    for batch in _batches(_plan(), 0):
        assert len(set(np.searchsorted(boundaries, LENGTHS[batch]))) == 1


def test_windows_are_sorted_and_all_batches_but_one_are_full():
    plan = _plan(batch_size=7, num_sorted=70)
    assert plan.num_batches == 72
    batches = _batches(plan, 3)
    assert sorted(len(batch) for batch in batches) == [3] + [7] * 71
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    padding = [1 - np.mean(LENGTHS[batch] / max(LENGTHS[batch])) for batch in batches]
    assert np.mean(padding) < 0.12
    assert batches != _batches(plan, 4)
    assert batches == _batches(_plan(batch_size=7, num_sorted=70), 3)
    # Each window of 70 by itself, and the batches in an order of their own.
    longest = [max(LENGTHS[batch]) for batch in batches]
    assert sorted(longest)[-8:] == [30] * 8
    assert longest != sorted(longest)


def test_windows_without_shuffling_are_plain():
    lengths = np.array([9, 3, 12, 8, 1, 10, 7, 11])
    plan = _plan(lengths, max_length=12, batch_size=2, num_sorted=4, shuffle=False)
    assert _batches(plan, 0) == [[1, 3], [0, 2], [4, 6], [5, 7]]
    plan = _plan(
        lengths, max_length=12, batch_size=2, num_sorted=4, shuffle=False, origins=[0] * 7 + [1], weights=[1, 1]
    )
    assert _batches(plan, 0) == [[1, 3], [0, 2], [7, 7], [7, 7]]


def test_the_order_is_a_function_of_seed_and_epoch():
    first = _batches(_plan(), 3)
    assert _batches(_plan(), 3) == first
    assert _batches(_plan(), 4) != first
    assert _batches(_plan(seed=6), 3) != first
    # Not only the batches' order: their members change too.
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in _batches(_plan(), 4)}
    # Nor are batches in the order of their lengths.
    longest = [max(LENGTHS[batch]) for batch in first]
    assert longest != sorted(longest)


def test_the_order_is_the_same_on_every_machine():
    plan = _plan(np.full(6, 3), batch_size=2)
    assert [_batches(plan, epoch) for epoch in (0, 1)] == [
        [[3, 4], [5, 1], [2, 0]],
        [[5, 2], [4, 0], [3, 1]],
    ]


def test_a_mixture_draws_by_weight_and_in_the_end_everything():
    origins = np.repeat([0, 1], [400, 100])
    plan = _plan(origins=origins, weights=[0.5, 0.5])
    seen: collections.Counter = collections.Counter()
    for epoch in range(8):
        drawn = [index for batch in _batches(plan, epoch) for index in batch]
        # 250 of each, and at most one more from each of 9 buckets.
        assert 250 <= sum(index < 400 for index in drawn) <= 259
        assert 250 <= sum(index >= 400 for index in drawn) <= 259
        counts = collections.Counter(drawn)
        assert max(counts[index] for index in range(400)) == 1
        assert {counts[index] for index in range(400, 500)} <= {2, 3, 4}
        seen.update(drawn)
    assert set(seen) == set(range(500))


def test_equal_weights_of_equal_sources_are_a_plain_epoch():
    origins = np.repeat([0, 1, 2], 30)
    plan = _plan(np.full(90, 5), origins=origins, weights=[0.3, 0.3, 0.3])
    assert sorted(index for batch in _batches(plan, 0) for index in batch) == list(range(90))


def test_rows_that_are_filled_up_weigh_nothing():
    labels, weights = tf.constant([[4, 5], [6, 7]]), tf.constant([[1, 1], [1, 0]], tf.float32)
    inputs, labels, weights = fill_rows(({"token_ids": labels}, labels, weights), 3)
    assert labels.numpy().tolist() == inputs["token_ids"].numpy().tolist() == [[4, 5], [6, 7], [4, 5]]
    assert weights.numpy().tolist() == [[1, 1], [1, 0], [0, 0]]
