"""Served outputs against recorded ones: the same text, and numbers that are as close as float32 allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfzoo.errors import ArtifactMismatch

# Of a number up to 1, in proportion above: log-probabilities in nats are sums over a whole sequence, and exponents
# enlarge what float32 sums in another order differ by.
TOLERANCE = 1e-3


def compare_outputs(
    what: str,
    texts: Sequence[Any],
    found: dict[str, list[Any]],
    expected: dict[str, list[Any]],
    ranked: str | None = None,
) -> float:
    """Compares outputs, each by name, a row for each text: strings and whole numbers exactly, others closely.

    Args:
        what: gave them, for the error.
        texts: the requests.
        found: outputs as nested lists; there may be more than are expected.
        expected: the recorded ones.
        ranked: the output that holds names in the order of `scores`, where names with the same score may change places.

    Returns: the largest difference of a number.

    Raises:
        ArtifactMismatch: another text, or a number beyond the tolerance.
    """
    largest = 0.0
    for name, rows in expected.items():
        if name not in found or not len(found[name]) == len(rows) == len(texts):
            raise ArtifactMismatch(f"{what}: no `{name}` for each of {len(texts)} texts.")
        for number, (text, row, recorded) in enumerate(zip(texts, found[name], rows, strict=True)):
            if _is_exact(recorded) or _shape(row) != _shape(recorded):
                if row != recorded and not (
                    name == ranked and _is_tied(row, recorded, found["scores"][number], expected["scores"][number])
                ):
                    raise ArtifactMismatch(f"{what} for {text!r}: {row!r:.200} instead of {recorded!r:.200}.")
                continue
            difference = float(np.abs(np.subtract(row, recorded)).max(initial=0.0))
            if not difference <= TOLERANCE * max(1.0, float(np.abs(recorded).max(initial=0.0))):
                raise ArtifactMismatch(
                    f"{what} for {text!r}: `{name}` differs by {difference:.2g}, more than the tolerance of "
                    f"{TOLERANCE:g}."
                )
            largest = max(largest, difference)
    return largest


def _is_exact(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, (str, int))


def _shape(value: Any) -> list[Any]:
    return [len(value), *(_shape(one) for one in value)] if isinstance(value, list) else []


def _is_tied(names: list[Any], recorded: list[Any], scores: list[Any], recorded_scores: list[Any]) -> bool:
    """Whether each name has the score that it had, so that only the order is another."""
    if recorded and isinstance(recorded[0], list):
        rows = zip(names, recorded, scores, recorded_scores, strict=True)
        return len(names) == len(recorded) and all(_is_tied(*row) for row in rows)
    known = dict(zip(recorded, recorded_scores, strict=True))
    return len(names) == len(recorded) and all(
        name in known and abs(known[name] - score) <= TOLERANCE for name, score in zip(names, scores, strict=True)
    )
