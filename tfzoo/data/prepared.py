"""A corpus that `tfzoo prepare` tokenized once: what its folder holds; `tfzoo.data.streaming` reads it.

dataset_info.json, features.json     a TensorFlow dataset: tfds.builder_from_directory(DIR) opens it
prepared-train.tfrecord-00003-of-00016
lengths/00003                        (N, 2) int32, little-endian: tokens and origin of each example of that shard
tokenizer/                           what made the ids
recipe.json                          what was asked for
examples.json                        a few inputs, for the proof of an export
statistics.json                      what was read, dropped and written; it comes last
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfzoo.data.sources import parse_spec, weight
from tfzoo.errors import DataError, UsageError
from tfzoo.text.pairs import TokenizerPair, pair
from tfzoo.text.tokenizers import Tokenizer

NAME, SPLIT = "prepared", "train"
STATISTICS, RECIPE, EXAMPLES, TOKENIZER, LENGTHS = (
    "statistics.json",
    "recipe.json",
    "examples.json",
    "tokenizer",
    "lengths",
)
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared corpus.

    Args:
        directory: its folder.
        statistics: see `tfzoo.data.shards.statistics`.
        tokenizer: what made its ids.
    """

    directory: Path
    statistics: dict[str, Any]
    tokenizer: TokenizerPair

    @property
    def num_shards(self) -> int:
        """Number of its shards."""
        return len(self.statistics["shards"])

    def shards(self, field: str) -> np.ndarray:
        """Returns (num_shards, ...) what the statistics say of each shard."""
        return np.array([one[field] for one in self.statistics["shards"]], np.int64)

    def files(self) -> list[str]:
        """Returns the TFRecord file of each shard."""
        return [str(shard_path(self.directory, index, self.num_shards)) for index in range(self.num_shards)]

    def lengths_files(self) -> list[str]:
        """Returns the file with the lengths of each shard."""
        return [str(lengths_path(self.directory, index)) for index in range(self.num_shards)]

    def lengths(self, index: int) -> np.ndarray:
        """Returns (N,) int32 tokens of each example of a shard."""
        return read_lengths(self.directory, index)[:, 0]

    def examples(self) -> list[str]:
        """Returns a few inputs, as `tfzoo predict` takes them."""
        return json.loads((self.directory / EXAMPLES).read_text(encoding="utf-8"))


def shard_path(directory: Path, index: int, num_shards: int) -> Path:
    """Returns where TFDS looks for a shard."""
    return directory / f"{NAME}-{SPLIT}.tfrecord-{index:05d}-of-{num_shards:05d}"


def lengths_path(directory: Path, index: int) -> Path:
    """Returns where the lengths of a shard are."""
    return directory / LENGTHS / f"{index:05d}"


def read_lengths(directory: Path, index: int) -> np.ndarray:
    """Returns (N, 2) int32, tokens and origin of each example of a shard."""
    return np.fromfile(lengths_path(directory, index), "<i4").reshape(-1, 2)


def prepared_directory(specs: str | Sequence[str]) -> Path | None:
    """Returns the folder of the one specification "prepared:DIR", or None when there is none such.

    Raises:
        UsageError: it has a weight, or stands beside others.
    """
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    if not any(spec.startswith("prepared:") for spec in specs):
        return None
    if len(specs) > 1 or weight(specs[0]) is not None:
        raise UsageError(
            f"{', '.join(specs)}: a prepared corpus is read alone, and without a weight; give its parts and their "
            "weights to one `tfzoo prepare`."
        )
    return Path(parse_spec(specs[0])[1])


def open_prepared(directory: Path, tokenizer: Tokenizer | TokenizerPair | None = None, **limits: Any) -> Prepared:
    """Opens a prepared corpus and checks that it is what would be made of its texts now.

    Args:
        directory: its folder.
        tokenizer: what the model's ids are; None = those of the corpus.
        **limits: fields of the recipe's data that decide which examples there are.

    Raises:
        DataError: the folder holds no finished corpus, or a damaged one.
        UsageError: it was made with another tokenizer or other limits.
    """
    path = directory / STATISTICS
    try:
        statistics = json.loads(path.read_text(encoding="utf-8"))
        if statistics["version"] != VERSION:
            raise UsageError(
                f"{directory} was prepared by another version of tfzoo (format {statistics['version']}, not "
                f"{VERSION}); prepare it again."
            )
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{directory} holds no prepared corpus: {STATISTICS} is missing. Name a folder that `tfzoo prepare` wrote; "
            "if it was interrupted, the same command finishes it."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise DataError(f"{path} is damaged ({error}); prepare the corpus again.") from error
    made_with = statistics["made_with"]
    for name, value in json.loads(json.dumps(limits)).items():
        if name not in made_with:
            raise UsageError(
                f"{directory} was prepared for the task {statistics['task']!r}, which has no `{name}`; prepare it for "
                "this recipe."
            )
        if made_with[name] != value:
            raise UsageError(
                f"{directory} was prepared with {name}={json.dumps(made_with[name])}; received "
                f"{name}={json.dumps(value)}. Set it in the recipe as it was, or prepare the corpus again."
            )
    own = TokenizerPair.load(directory / TOKENIZER)
    if tokenizer is not None and not same_tokenizer(own, tokenizer):
        raise UsageError(
            f"{directory} was prepared with another tokenizer; prepare it with this one by `tfzoo prepare "
            "--tokenizer=DIR`, where DIR is the run, or train a new run on it."
        )
    return Prepared(directory, statistics, own)


def same_tokenizer(first: TokenizerPair, second: Tokenizer | TokenizerPair) -> bool:
    """Whether two tokenizers are the same, file by file, whatever they put behind a prompt."""
    pairs = [dataclasses.replace(pair(one), prompt_suffix="") for one in (first, second)]
    return pairs[0].assets() == pairs[1].assets()
