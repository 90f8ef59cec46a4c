"""How far a score could have come out otherwise, had other examples been drawn (Efron & Tibshirani, 1993, chapter 13).

The examples are drawn anew with replacement, as many as there are, 1,000 times; the interval reaches from the 2.5th to
the 97.5th percentile of the scores of these draws. Which ones are drawn depends on the number of examples alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

NUM_DRAWS = 1000
_PERCENTILES = (2.5, 97.5)
_SEED = 0
_MAX_VALUES = 1 << 22  # that are drawn at once

Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Takes (R, N) indices of examples, gives by name the (R,) scores of each row; NaN where a score is not defined."""


def with_intervals(statistic: Statistic, num_examples: int) -> dict[str, float | list[float] | None]:
    """Returns each score of all examples, and behind it as NAME_interval the 95 % interval of it.

    A score that is not defined is None, as is an interval that no draw defines.

    Args:
        statistic: gives the scores.
        num_examples: N.
    """
    drawn: dict[str, list[np.ndarray]] = {}
    generator = np.random.default_rng(_SEED)
    num_rows = max(1, _MAX_VALUES // num_examples)
    for first in range(0, NUM_DRAWS, num_rows):
        size = (min(num_rows, NUM_DRAWS - first), num_examples)
        for name, values in statistic(generator.integers(num_examples, size=size)).items():
            drawn.setdefault(name, []).append(values)
    scores: dict[str, float | list[float] | None] = {}
    for name, value in statistic(np.arange(num_examples)[np.newaxis]).items():
        values = np.concatenate(drawn[name])
        values = values[np.isfinite(values)]
        scores[name] = float(value[0]) if np.isfinite(value[0]) else None
        scores[f"{name}_interval"] = np.percentile(values, _PERCENTILES).tolist() if len(values) else None
    return scores


def count(draws: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """Returns (R, G), how many examples of each group are in each of (R, N) draws.

    Args:
        draws: indices of examples.
        groups: (number of examples,) int in [0, G), the group of each.
        num_groups: G.
    """
    rows = np.arange(len(draws))[:, np.newaxis] * num_groups
    return np.bincount((rows + groups[draws]).ravel(), minlength=len(draws) * num_groups).reshape(-1, num_groups)
