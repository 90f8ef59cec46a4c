"""`tfzoo prepare`: a corpus is cleaned, deduplicated, tokenized and sharded once, for many epochs and many workers.

Two stages, each over many processes and in constant memory: units of the input are cleaned and sorted into partitions
on disk (`tfzoo.data.partitions`), and each partition becomes a shard (`tfzoo.data.shards`). Between them a tokenizer is
trained on a sample, unless one is given. A unit or a shard is there whole or not at all, so that the same call goes on
where a killed one was.

    DIR/                what `tfzoo.data.prepared` reads
    DIR/.prepare.json   what it is made of
    DIR/.prepare/       units, and what is known of each shard; deleted at the end. It takes about as much room as the
                        corpus
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from tfzoo import run_data
from tfzoo.data import partitions, shards
from tfzoo.data.config import CausalLmDataConfig, DataConfig
from tfzoo.data.partitions import Item, Job, Unit
from tfzoo.data.pipeline import check_special_ids
from tfzoo.data.prepared import EXAMPLES, LENGTHS, RECIPE, STATISTICS, TOKENIZER
from tfzoo.data.processes import Processes
from tfzoo.data.sources import parse_spec, weight
from tfzoo.errors import UsageError
from tfzoo.recipes.recipe import Recipe, to_json
from tfzoo.text import TokenizerPair, train_pair

JOB, WORK = ".prepare.json", ".prepare"
TOKENIZER_CHARACTERS = 10_000_000


def prepare(
    recipe: Recipe,
    output_dir: str | os.PathLike[str],
    *,
    data: Sequence[str] | str = (),
    tokenizer: str | os.PathLike[str] | None = None,
    num_workers: int = 1,
    num_shards: int | None = None,
    tokenizer_characters: int = TOKENIZER_CHARACTERS,
    verbose: bool = True,
) -> dict[str, Any]:
    """Prepares a corpus for "prepared:DIR"; called again with the same arguments, it goes on.

    With `num_workers` above 1 this starts processes, so that a script needs its `if __name__ == "__main__"`.

    Args:
        recipe: of the task "seq2seq" or "causal_lm"; says how texts are cleaned, how long they may be, and which
            tokenizer is trained.
        output_dir: an absent or empty folder, or that of the call to go on with.
        data: one data specification or several, instead of the recipe's own.
        tokenizer: the folder of a run, an artifact, another prepared corpus or a tokenizer; None = one is trained.
        num_workers: processes.
        num_shards: files; None = one for each 32 MB of text, and at least 16. Training needs one for each worker.
        tokenizer_characters: how much text, drawn from all over the corpus, a tokenizer is trained on.
        verbose: whether to show a progress bar on a terminal.

    Returns: the statistics, see `tfzoo.data.shards.statistics`.

    Raises:
        UsageError: a task, or an option of it, that is not prepared; a number out of its range; a folder with
            something else.
        DataError: missing or malformed data, or no example that is left.
        ArtifactError: `tokenizer` holds no tokenizer.
    """
    recipe, job, units = plan(recipe, data, num_shards)
    for name, value in (("num_workers", num_workers), ("tokenizer_characters", tokenizer_characters)):
        if value < 1:
            raise UsageError(f"`{name}` must be at least 1; received {name}={value}.")
    given = None if tokenizer is None else load_tokenizer(tokenizer)
    directory = Path(output_dir)
    if (statistics := begin(directory, recipe, job, units, given, tokenizer_characters)) is not None:
        return statistics
    show = functools.partial(tqdm, disable=None if verbose else True)
    with Processes(num_workers) as run:
        sizes = [sum(map(partitions.size_of, unit.parts)) for unit in units]
        with show(desc="reading", total=sum(sizes), unit="B", unit_scale=True) as progress:
            for index, _ in run(_partition, [(job, index, unit, directory) for index, unit in enumerate(units)]):
                progress.update(sizes[index])
        if given is None and not (directory / TOKENIZER).exists():
            texts = partitions.sample(directory / WORK / "units", job.num_shards, tokenizer_characters)
            given = train_pair(recipe.tokenizer, _counted(texts), recipe.model.vocabulary_size)
            save_tokenizer(job, given, directory)
        elif given is not None:
            save_tokenizer(job, given, directory)
        _tokenizer.cache_clear()  # this process may have had another one in that folder
        with show(desc="tokenizing", total=job.num_shards, unit=" shards") as progress:
            for _ in run(_write_partition, [(job, index, directory) for index in range(job.num_shards)]):
                progress.update()
    return finish(recipe, job, directory, is_trained=tokenizer is None)


def plan(recipe: Recipe, data: Sequence[str] | str, num_shards: int | None) -> tuple[Recipe, Job, list[Unit]]:
    """Returns the recipe with its data, what is to be done, and the units of the input.

    Raises:
        UsageError: a task, or an option of it, that is not prepared; a specification that is unknown or does not fit.
        DataError: there is no such file.
    """
    specs = ((data,) if isinstance(data, str) else tuple(data)) or recipe.data.train
    if not specs:
        raise UsageError(f"the recipe {recipe.name!r} names no data; give some, such as --data=tsv:train.tsv.")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, train=specs, validation=()))
    job = _job(recipe, 1 if num_shards is None else num_shards)
    for spec in specs:
        if parse_spec(spec)[0] == "prepared":
            raise UsageError(f"{spec}: is prepared already; name the texts themselves.")
        run_data.records(recipe, spec)  # what is misspelt should not wait for its turn
    units = partitions.units(specs)
    if num_shards is None:
        job = dataclasses.replace(job, num_shards=partitions.default_num_shards(units))
    return recipe, job, units


def _job(recipe: Recipe, num_shards: int) -> Job:
    data = recipe.data
    if not 1 <= num_shards <= 99_999:
        raise UsageError(f"`num_shards` must be in [1, 99999]; received num_shards={num_shards}.")
    if not isinstance(data, (DataConfig, CausalLmDataConfig)):
        raise UsageError(
            f"a corpus is prepared for the tasks 'seq2seq' and 'causal_lm'; the recipe {recipe.name!r} is for "
            f"{recipe.task!r}, whose examples are more than token ids. Train it on the texts themselves."
        )
    if "near_duplicates" in data.cleaning:
        raise UsageError(
            "`data.cleaning` holds 'near_duplicates', which compares each document with all before it, in 4 kB of "
            "memory for each; write what `tfzoo.data.clean` keeps to a file first, and prepare that."
        )
    if isinstance(data, DataConfig):
        if data.noise is not None:
            raise UsageError(
                f"`data.noise` is drawn anew in each epoch from single texts; received noise={data.noise!r}. Pairs "
                "alone are prepared."
            )
        return Job(
            task="seq2seq",
            specs=data.train,
            cleaning=data.cleaning,
            is_reversed=data.reversed,
            max_source_length=data.max_source_length,
            max_target_length=data.max_target_length,
            num_shards=num_shards,
        )
    if data.examples != "packed":
        raise UsageError(
            f"`data.examples` must be 'packed': whole documents are prepared, and are streamed as windows; received "
            f"examples={data.examples!r}."
        )
    for spec in data.train:
        if weight(spec) is not None:
            raise UsageError(
                f"{spec}: a language model reads every document once an epoch, so that a weight has no meaning; "
                "leave it out, or repeat the specification."
            )
    return Job(task="causal_lm", specs=data.train, cleaning=data.cleaning, num_shards=num_shards)


def load_tokenizer(path: str | os.PathLike[str]) -> TokenizerPair:
    """Returns the tokenizer of a run, an artifact, a prepared corpus, or of a folder of its own.

    Raises:
        ArtifactError: there is none.
    """
    folder = Path(path)
    return TokenizerPair.load(folder / TOKENIZER if (folder / TOKENIZER).is_dir() else folder)


def begin(
    directory: Path,
    recipe: Recipe,
    job: Job,
    units: list[Unit],
    given: TokenizerPair | None,
    tokenizer_characters: int | None = None,
) -> dict[str, Any] | None:
    """Makes the folder of a corpus, or goes on with it; returns its statistics if it is finished already.

    Raises:
        UsageError: the folder holds something else, or the corpus was begun otherwise.
    """
    files = sorted({part.path for unit in units for part in unit.parts})
    wanted = {
        "recipe": json.loads(to_json(recipe)),
        "num_shards": job.num_shards,
        "tokenizer": None if given is None else _digest(given),
        "tokenizer_characters": tokenizer_characters if given is None else None,
        "files": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files],
    }
    _claim(directory, wanted)
    if (directory / STATISTICS).exists():
        logging.info("%s is prepared already.", directory)
        return json.loads((directory / STATISTICS).read_text(encoding="utf-8"))
    for folder in (directory / WORK / "units", directory / WORK / "shards", directory / LENGTHS):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (directory, directory / LENGTHS, directory / WORK / "units", directory / WORK / "shards"):
        for path in folder.glob(".[0-9p]*"):  # what a killed call left half-written
            if path.is_file() and path.name != JOB:
                path.unlink()
    return None


def _digest(tokenizer: TokenizerPair) -> str:
    content = hashlib.sha256()
    for name, asset in sorted(tokenizer.assets().items()):
        content.update(name.encode() + b"\0" + asset)
    return content.hexdigest()


def _claim(directory: Path, wanted: dict[str, Any]) -> None:
    path = directory / JOB
    if path.exists():
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path} is damaged; name another output_dir, or remove {directory}.") from error
        changed = [name for name in wanted if name not in noted or noted[name] != wanted[name]]
        if changed:
            raise UsageError(
                f"{directory} was begun with another `{changed[0]}`; go on as before, or name another output_dir."
            )
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"`output_dir` {directory} exists and is not empty; name another folder.")
    directory.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(wanted))


def save_tokenizer(job: Job, tokenizer: TokenizerPair, directory: Path) -> None:
    """Writes the tokenizer of a corpus, whole or not at all, unless it is there.

    Raises:
        UsageError: it cannot tell padding from text, where pairs are padded.
    """
    if job.task == "seq2seq":
        check_special_ids(tokenizer)
    if (directory / TOKENIZER).exists():
        return
    aside = directory / f".{TOKENIZER}"
    shutil.rmtree(aside, ignore_errors=True)
    dataclasses.replace(tokenizer, prompt_suffix="").save(aside)
    aside.rename(directory / TOKENIZER)


def _counted(texts: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    num_records = num_characters = 0
    for record in texts:
        yield record
        num_records += 1
        num_characters += sum(map(len, record))
    logging.info("training the tokenizer on %d examples of %d characters", num_records, num_characters)


def _partition(job: Job, index: int, unit: Unit, directory: Path) -> None:
    if not _noted_path(directory, "units", index).exists():
        note(directory, "units", index, partitions.partition(job, index, unit, directory / WORK / "units"))


def _write_partition(job: Job, index: int, directory: Path) -> None:
    records = partitions.read_partition(directory / WORK / "units", index)
    write_shard(job, index, records, lambda: _tokenizer(directory / TOKENIZER), directory)


def write_shard(
    job: Job, index: int, records: Iterable[Item], tokenizer: Callable[[], TokenizerPair], directory: Path
) -> None:
    """Writes a shard, and a note of what is known of it, unless they are there.

    Args:
        job: what is prepared.
        index: number of the shard.
        records: in the order of their hashes.
        tokenizer: gives the tokenizer.
        directory: the corpus.
    """
    if not _noted_path(directory, "shards", index).exists():
        note(directory, "shards", index, shards.write_shard(job, index, records, tokenizer(), directory))


def note(directory: Path, kind: str, index: int, found: dict[str, Any]) -> None:
    """Notes what is known of a unit or a shard, by which it counts as done.

    Args:
        directory: the corpus.
        kind: "units" or "shards".
        index: its number.
        found: what is known.
    """
    _write(_noted_path(directory, kind, index), json.dumps(found))


def _noted_path(directory: Path, kind: str, index: int) -> Path:
    return directory / WORK / kind / f"{index:06d}.json"


def _noted(directory: Path, kind: str) -> list[dict[str, Any]]:
    paths = sorted((directory / WORK / kind).glob("[0-9]*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> TokenizerPair:
    """Returns the tokenizer of a folder, loaded once in each process."""
    return TokenizerPair.load(folder)


def finish(recipe: Recipe, job: Job, directory: Path, *, is_trained: bool) -> dict[str, Any]:
    """Writes what makes the shards a corpus, the statistics last, and returns these.

    Args:
        recipe: what was asked for.
        job: what was done.
        directory: the corpus.
        is_trained: whether the tokenizer was trained on it.
    """
    found = _noted(directory, "shards")
    statistics = shards.statistics(job, found, _noted(directory, "units"), directory)
    statistics["tokenizer"] = {"is_trained": is_trained}
    firsts = [one["first"] for one in found if one["first"]]
    chosen = [firsts[len(firsts) * place // run_data.NUM_EXAMPLES] for place in range(run_data.NUM_EXAMPLES)]
    inputs = [*dict.fromkeys(texts[0] for texts in chosen)]
    if job.task == "causal_lm":
        inputs = [run_data.beginning(document) for document in inputs]
    _write(directory / EXAMPLES, json.dumps(inputs, ensure_ascii=False, indent=2) + "\n")
    _write(directory / RECIPE, to_json(recipe))
    shards.write_metadata(job, found, directory)
    _write(directory / STATISTICS, json.dumps(statistics) + "\n")
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


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
