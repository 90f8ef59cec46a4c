"""The folder that a corpus is prepared in, shard by shard, so that the same call goes on where a killed one was.

    DIR/                what `tfzoo.data.prepared` reads
    DIR/.prepare.json   what it is made of
    DIR/.prepare/       units, and what is known of each shard; deleted at the end. It takes about as much room as the
                        corpus

A unit or a shard counts as done when its note is there, `DIR/.prepare/shards/000003.json`, which comes after it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from absl import logging

from tfzoo import run_data
from tfzoo.data import partitions, shards
from tfzoo.data.partitions import Item, Job, Unit
from tfzoo.data.prepared import EXAMPLES, LENGTHS, RECIPE, STATISTICS, TOKENIZER
from tfzoo.folders import claim, write
from tfzoo.recipes.recipe import Recipe, to_json
from tfzoo.text import TokenizerPair

JOB, WORK = ".prepare.json", ".prepare"


def begin(
    directory: Path,
    recipe: Recipe,
    job: Job,
    units: list[Unit],
    given: TokenizerPair | None,
    tokenizer_characters: int | None = None,
) -> dict[str, Any] | None:
    """Makes the folder of a corpus, or goes on with it; returns its statistics if it is finished already.

    Args:
        directory: the corpus.
        recipe: what is asked for, with its data.
        job: what is done.
        units: of the input.
        given: the tokenizer; None = one is trained.
        tokenizer_characters: how much text it is trained on.

    Raises:
        UsageError: the folder holds something else, or the corpus was begun otherwise.
    """
    files = sorted({part.path for unit in units for part in unit.parts})
    made_with = {
        "recipe": json.loads(to_json(recipe)),
        "num_shards": job.num_shards,
        "tokenizer": None if given is None else _digest(given),
        "tokenizer_characters": tokenizer_characters if given is None else None,
        "files": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files],
    }
    claim(directory, JOB, made_with)
    if (directory / STATISTICS).exists():
        logging.info("%s is prepared already.", directory)
        shutil.rmtree(directory / WORK, ignore_errors=True)
        return json.loads((directory / STATISTICS).read_text(encoding="utf-8"))
    for folder in (directory, directory / LENGTHS, directory / WORK / "units", directory / WORK / "shards"):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.part"):  # what a killed call left half-written
            path.unlink()
    return None


def _digest(tokenizer: TokenizerPair) -> str:
    content = hashlib.sha256()
    for name, asset in sorted(tokenizer.assets().items()):
        content.update(name.encode() + b"\0" + asset)
    return content.hexdigest()


def save_tokenizer(tokenizer: TokenizerPair, directory: Path) -> None:
    """Writes the tokenizer of a corpus, whole or not at all, unless it is there."""
    if (directory / TOKENIZER).exists():
        return
    aside = directory / f".{TOKENIZER}"
    shutil.rmtree(aside, ignore_errors=True)
    dataclasses.replace(tokenizer, prompt_suffix="").save(aside)
    aside.rename(directory / TOKENIZER)


def write_unit(job: Job, index: int, unit: Unit, directory: Path) -> None:
    """Sorts the records of a unit into partitions, and notes how many there are, unless that is done."""
    if not _noted_path(directory, "units", index).exists():
        note_unit(index, partitions.partition(job, index, unit, directory / WORK / "units"), directory)


def note_unit(index: int, counts: dict[str, int], directory: Path) -> None:
    """Notes how many records of a unit were `read`, and how many of them were `empty`."""
    write(_noted_path(directory, "units", index), json.dumps(counts))


def sample(job: Job, num_characters: int, directory: Path) -> Iterator[tuple[str, ...]]:
    """Yields the texts of records from all over the units, until there are so many characters, and logs them."""
    num_records = num_read = 0
    for record in partitions.sample(directory / WORK / "units", job.num_shards, num_characters):
        yield record
        num_records += 1
        num_read += sum(map(len, record))
    logging.info("training the tokenizer on %d examples of %d characters", num_records, num_read)


def write_partition(job: Job, index: int, directory: Path) -> None:
    """Writes the shard of a partition of the units, and a note of what is known of it, unless that is done."""
    records = partitions.read_partition(directory / WORK / "units", index)
    write_shard(job, index, records, lambda: load_tokenizer_once(directory / TOKENIZER), directory)


def write_shard(
    job: Job, index: int, records: Iterable[Item], tokenizer: Callable[[], TokenizerPair], directory: Path
) -> None:
    """Writes a shard, and a note of what is known of it, unless that is done.

    Args:
        job: what is prepared.
        index: number of the shard.
        records: in the order of their hashes.
        tokenizer: gives the tokenizer.
        directory: the corpus.
    """
    path = _noted_path(directory, "shards", index)
    if not path.exists():
        write(path, json.dumps(shards.write_shard(job, index, records, tokenizer(), directory)))


def _noted_path(directory: Path, kind: str, index: int) -> Path:
    return directory / WORK / kind / f"{index:06d}.json"


def _noted(directory: Path, kind: str) -> list[dict[str, Any]]:
    paths = sorted((directory / WORK / kind).glob("[0-9]*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


@functools.lru_cache(maxsize=1)
def load_tokenizer_once(folder: Path) -> TokenizerPair:
    """Returns the tokenizer of a folder, loaded once in each process."""
    return TokenizerPair.load(folder)


def finish(recipe: Recipe, job: Job, directory: Path, *, is_trained: bool) -> dict[str, Any]:
    """Writes what makes the shards a corpus, the statistics last, and returns these.

    Args:
        recipe: what was asked for.
        job: what was done.
        directory: the corpus.
        is_trained: whether the tokenizer was trained on it.

    Raises:
        DataError: no example is left.
    """
    found = _noted(directory, "shards")
    statistics = shards.statistics(job, found, _noted(directory, "units"), directory)
    statistics["tokenizer"] = {"is_trained": is_trained}
    firsts = [one["first"] for one in found if one["first"]]
    chosen = [firsts[len(firsts) * place // run_data.NUM_EXAMPLES] for place in range(run_data.NUM_EXAMPLES)]
    inputs = [run_data.shortened(recipe, text) for text in dict.fromkeys(texts[0] for texts in chosen)]
    write(directory / EXAMPLES, json.dumps(inputs, ensure_ascii=False, indent=2) + "\n")
    write(directory / RECIPE, to_json(recipe))
    shards.write_metadata(job, found, directory)
    write(directory / STATISTICS, json.dumps(statistics) + "\n")
    shutil.rmtree(directory / WORK)
    logging.info(
        "%s: %d examples, %d tokens in %d shards; of %d read, left out: %s.",
        directory,
        statistics["num_examples"],
        statistics["num_tokens"],
        job.num_shards,
        statistics["num_read"],
        ", ".join(f"{count} {name}" for name, count in statistics["dropped"].items()),
    )
    return statistics
