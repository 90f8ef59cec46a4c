"""The records of a corpus, cleaned and sorted into partitions by the hash of their text, in constant memory.

A partition becomes a shard. It holds all records of one text, so that duplicates are found where they lie side by side,
and it is a random sample of the corpus: sorted by the hash, a corpus is shuffled.

The input is read in units of about `UNIT_BYTES`: some small files, or a part of a large one. A unit's records go into a
file of lines, partition by partition, with a table of where each begins (as the map stage of a MapReduce writes them;
Dean and Ghemawat, 2004, section 4.1):

    UNITS/000007.jsonl    hash, origin and texts of each record; in runs, when a unit holds more than it should
    UNITS/000007.npy      (runs, partitions + 1) int64, where in it each partition begins
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfzoo.data.cleaning import Cleaner, digest, joined
from tfzoo.data.corpus import read_pairs
from tfzoo.data.lines import Part
from tfzoo.data.sources import parts_of, read
from tfzoo.folders import aside

UNIT_BYTES = 32 << 20
SHARD_BYTES = 32 << 20
MIN_SHARDS = 16
_COMPRESSED = 4  # how much larger a text is than its .gz file, about
_DIGITS = 32  # of a hash


class Item(NamedTuple):
    """A cleaned record.

    Args:
        digest: hexadecimal, 32 digits; of the text as it was when duplicates were looked for.
        origin: index of its specification.
        texts: source and target, or a document.
    """

    digest: str
    origin: int
    texts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is prepared, and how.

    Args:
        task: "seq2seq", "causal_lm" or "fill_mask".
        specs: data specifications.
        cleaning: names of steps, see `tfzoo.data.cleaning`.
        is_reversed: see `tfzoo.data.corpus.read_pairs`.
        max_source_length: longest source in tokens, the end token included; None for documents.
        max_target_length: the same for the target.
        num_shards: number of partitions.
    """

    task: str
    specs: tuple[str, ...]
    cleaning: tuple[str, ...] = ()
    is_reversed: bool = False
    max_source_length: int | None = None
    max_target_length: int | None = None
    num_shards: int

    @property
    def deduplicates(self) -> bool:
        """Whether a text is kept once."""
        return "exact_duplicates" in self.cleaning

    def shard_of(self, item: Item) -> int:
        """Returns the partition of a record; those of lower hashes come first."""
        return int(item.digest[:16], 16) * self.num_shards >> 64


class Unit(NamedTuple):
    """What is read at once: parts of files, or, without any, all that a specification names."""

    origin: int
    parts: tuple[Part, ...]


def units(specs: tuple[str, ...]) -> list[Unit]:
    """Returns the units of all specifications, in their order.

    Raises:
        UsageError: an unknown specification.
        DataError: there is no such file.
    """
    found = []
    for origin, spec in enumerate(specs):
        parts = parts_of(spec, UNIT_BYTES)
        if not parts:
            found.append(Unit(origin, ()))
        together: list[Part] = []
        for part in parts:
            if together and sum(map(size_of, (*together, part))) > UNIT_BYTES:
                found.append(Unit(origin, tuple(together)))
                together = []
            together.append(part)
        if together:
            found.append(Unit(origin, tuple(together)))
    return found


def size_of(part: Part) -> int:
    """Returns how many bytes of text there are, about."""
    if part.end is not None:
        return part.end - part.start
    return part.path.stat().st_size * (_COMPRESSED if part.path.suffix == ".gz" else 1)


def default_num_shards(all_units: list[Unit]) -> int:
    """Returns a shard for each 32 MB of text, and 16 at least, so that a few workers can share a small corpus."""
    num_bytes = sum(size_of(part) for unit in all_units for part in unit.parts)
    return max(MIN_SHARDS, -(-num_bytes // SHARD_BYTES))


def items(job: Job, origin: int, records: Iterator[tuple[str, ...]], counts: dict[str, int]) -> Iterator[Item]:
    """Yields cleaned records with their hashes; duplicates too.

    Args:
        job: how they are cleaned.
        origin: index of their specification.
        records: source and target each, or a document.
        counts: gets `read` and `empty`.
    """
    place = job.cleaning.index("exact_duplicates") if job.deduplicates else len(job.cleaning)
    before = Cleaner(job.cleaning[:place])
    after = Cleaner([step for step in job.cleaning[place:] if step != "exact_duplicates"])
    num_read = 0
    for record in records:
        num_read += 1
        if (told_by := before(record)) is not None and (texts := after(told_by)) is not None:
            yield Item(digest(joined(told_by)).hex(), origin, texts)
    counts["read"] = num_read
    counts["empty"] = before.num_empty + after.num_empty


def read_unit(job: Job, unit: Unit) -> Iterator[tuple[str, ...]]:
    """Yields the records of a unit.

    Raises:
        DataError: missing or malformed data; the message names file and line.
    """
    spec = job.specs[unit.origin]
    if job.task == "seq2seq":
        return read_pairs(spec, is_reversed=job.is_reversed, parts=unit.parts)
    return read(spec, columns=1, parts=unit.parts)


def partition(job: Job, index: int, unit: Unit, folder: Path) -> dict[str, int]:
    """Writes the files of one unit, each whole or not at all.

    Args:
        job: what is prepared.
        index: number of the unit.
        unit: what to read.
        folder: where the files of all units are.

    Returns: how many records were `read`, and how many of them were `empty`.
    """
    lines: list[list[bytes]] = [[] for _ in range(job.num_shards)]
    tables: list[np.ndarray] = []
    counts: dict[str, int] = {}
    num_bytes = 0
    paths = [folder / f"{index:06d}{suffix}" for suffix in (".jsonl", ".npy")]
    asides = [aside(path) for path in paths]
    with asides[0].open("wb") as file:

        def flush() -> None:
            ends = np.cumsum([0, *(sum(map(len, some)) for some in lines)]) + file.tell()
            for some in lines:
                file.writelines(some)
                some.clear()
            tables.append(ends)

        for item in items(job, unit.origin, read_unit(job, unit), counts):
            line = f"{item.digest}{json.dumps([item.origin, *item.texts])}\n".encode("ascii")
            lines[job.shard_of(item)].append(line)
            num_bytes += len(line)
            if num_bytes > 2 * UNIT_BYTES:
                flush()
                num_bytes = 0
        flush()
    with asides[1].open("wb") as table:
        np.save(table, np.array(tables, np.int64))
    for part, path in zip(asides, paths, strict=True):
        part.replace(path)
    return counts


def read_partition(folder: Path, index: int) -> Iterator[Item]:
    """Yields the records of a partition by their hash, those of one text as they stood in the data.

    Args:
        folder: where the files of all units are.
        index: number of the partition.

    Memory: the partition's text.
    """
    lines: list[bytes] = []
    for path in sorted(folder.glob("[0-9]*.jsonl")):
        table = np.load(path.with_suffix(".npy"), mmap_mode="r")
        with path.open("rb") as file:
            for start, end in table[:, index : index + 2].tolist():
                file.seek(start)
                lines += file.read(end - start).splitlines(keepends=True)
    lines.sort(key=lambda line: line[:_DIGITS])
    for line in lines:
        origin, *texts = json.loads(line[_DIGITS:])
        yield Item(line[:_DIGITS].decode("ascii"), origin, tuple(texts))


def sample(folder: Path, num_shards: int, num_characters: int) -> Iterator[tuple[str, ...]]:
    """Yields the texts of records from all over the corpus, each text once, until there are enough characters."""
    last = None
    for item in itertools.chain.from_iterable(read_partition(folder, index) for index in range(num_shards)):
        if num_characters <= 0:
            return
        if item.digest != last:
            num_characters -= sum(map(len, item.texts))
            yield item.texts
        last = item.digest


def made_with(job: Job) -> dict[str, Any]:
    """Returns what decides which examples there are, by the names of a recipe's data, for `open_prepared`."""
    if job.task != "seq2seq":
        return {"cleaning": list(job.cleaning)}
    return {
        "max_source_length": job.max_source_length,
        "max_target_length": job.max_target_length,
        "reversed": job.is_reversed,
        "noise": None,
        "cleaning": list(job.cleaning),
    }
