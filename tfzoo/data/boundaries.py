"""Bucket boundaries that leave the least padding, chosen from the lengths of the data."""

from __future__ import annotations

import numpy as np

NUM_BUCKETS = 16


def choose_boundaries(histogram: np.ndarray, num_buckets: int = NUM_BUCKETS) -> list[int]:
    """Returns the longest length of each bucket, ascending, so that the fewest tokens are padding.

    An example is padded to the end of its bucket. The least sum over all examples is found exactly, by dynamic
    programming over the lengths that there are, as breaks of a one-dimensional clustering are (Fisher, 1958).

    4 examples of 2 tokens, 1 of 3 and 3 of 9, and two buckets: the ends 3 and 9 pad 4 tokens, 2 and 9 would pad 6.

    >>> choose_boundaries(np.array([0, 0, 4, 1, 0, 0, 0, 0, 0, 3]), num_buckets=2)
    [3, 9]

    Args:
        histogram: (L + 1,) int, how many examples there are of each length, from 0 on; at least one.
        num_buckets: most buckets.
    """
    lengths = np.flatnonzero(histogram)
    before = np.concatenate([[0], np.cumsum(histogram[lengths])])  # examples that are shorter than each length
    # cost[j]: tokens of the j shortest lengths' examples, padded, in as many buckets as there are so far.
    cost = np.concatenate([[0], lengths * before[1:]])
    breaks: list[np.ndarray] = []
    for _ in range(min(num_buckets, len(lengths)) - 1):
        better, starts = cost.copy(), np.zeros(len(cost), int)
        for end in range(1, len(cost)):
            costs = cost[:end] + lengths[end - 1] * (before[end] - before[:end])
            starts[end] = np.argmin(costs)
            better[end] = costs[starts[end]]
        breaks.append(starts)
        cost = better
    end = len(lengths)
    boundaries = [int(lengths[-1])]
    for starts in reversed(breaks):
        end = int(starts[end])
        if end:
            boundaries.append(int(lengths[end - 1]))
    return boundaries[::-1]
