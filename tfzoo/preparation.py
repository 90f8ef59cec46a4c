"""`tfzoo prepare`: a corpus is cleaned, deduplicated, tokenized and sharded once, for many epochs and many workers.

Two stages, each over many processes and in constant memory: units of the input are cleaned and sorted into partitions
on disk (`tfzoo.data.partitions`), and each partition becomes a shard (`tfzoo.data.shards`). Between them a tokenizer is
trained on a sample, unless one is given. `tfzoo.corpus_folder` keeps account of what is done.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfzoo import corpus_folder, run_data
from tfzoo.data import partitions
from tfzoo.data.config import CausalLmDataConfig, DataConfig, MaskedLmDataConfig
from tfzoo.data.partitions import Job, Unit
from tfzoo.data.pipeline import check_special_ids
from tfzoo.data.prepared import TOKENIZER
from tfzoo.data.processes import Processes
from tfzoo.data.sources import parse_spec, weight
from tfzoo.errors import UsageError
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import TokenizerPair, train_pair
from tfzoo.text.word_piece import WordPieceTokenizer

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
        recipe: of the task "seq2seq", "causal_lm" or "fill_mask"; says how texts are cleaned, how long they may be, and
            which tokenizer is trained.
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
    given = None if tokenizer is None else load_tokenizer(job, tokenizer)
    directory = Path(output_dir)
    statistics = corpus_folder.begin(directory, recipe, job, units, given, tokenizer_characters)
    if statistics is not None:
        return statistics
    show = functools.partial(tqdm, disable=None if verbose else True)
    with Processes(num_workers) as run:
        sizes = [sum(map(partitions.size_of, unit.parts)) for unit in units]
        with show(desc="reading", total=sum(sizes), unit="B", unit_scale=True) as progress:
            tasks = [(job, index, unit, directory) for index, unit in enumerate(units)]
            for index, _ in run(corpus_folder.write_unit, tasks):
                progress.update(sizes[index])
        if given is None and not (directory / TOKENIZER).exists():
            texts = corpus_folder.sample(job, tokenizer_characters, directory)
            given = _checked(job, train_pair(recipe.tokenizer, texts, recipe.model.vocabulary_size))
        if given is not None:
            corpus_folder.save_tokenizer(given, directory)
        corpus_folder.load_tokenizer_once.cache_clear()  # this process may have had another one in that folder
        with show(desc="tokenizing", total=job.num_shards, unit=" shards") as progress:
            for _ in run(corpus_folder.write_partition, [(job, index, directory) for index in range(job.num_shards)]):
                progress.update()
    return corpus_folder.finish(recipe, job, directory, is_trained=tokenizer is None)


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
    if not isinstance(data, (DataConfig, CausalLmDataConfig, MaskedLmDataConfig)):
        raise UsageError(
            f"a corpus is prepared for the tasks 'seq2seq', 'causal_lm' and 'fill_mask'; the recipe {recipe.name!r} is "
            f"for {recipe.task!r}, whose examples are more than texts. `tfzoo train` reads them from the files "
            "themselves, such as --data=tsv:PATH, and holds them in memory, 4 bytes a token."
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
                "alone are prepared; train with noise on the texts themselves."
            )
        return Job(
            task=recipe.task,
            specs=data.train,
            cleaning=data.cleaning,
            is_reversed=data.reversed,
            max_source_length=data.max_source_length,
            max_target_length=data.max_target_length,
            num_shards=num_shards,
        )
    if isinstance(data, CausalLmDataConfig) and data.examples != "packed":
        raise UsageError(
            f"`data.examples` must be 'packed': whole documents are prepared, and are streamed as windows; received "
            f"examples={data.examples!r}. Train with it on the texts themselves."
        )
    if getattr(recipe.model, "next_sentence", False):
        raise UsageError(
            "`model.next_sentence` must be false: it draws sentences from all over the corpus, which is streamed; "
            "received next_sentence=True. Do without, as Liu et al. (2019) did, or train on the texts themselves."
        )
    for spec in data.train:
        if weight(spec) is not None:
            raise UsageError(
                f"{spec}: a language model reads every document once an epoch, so that a weight has no meaning; "
                "leave it out, or repeat the specification."
            )
    return Job(task=recipe.task, specs=data.train, cleaning=data.cleaning, num_shards=num_shards)


def load_tokenizer(job: Job, path: str | os.PathLike[str]) -> TokenizerPair:
    """Returns the tokenizer of a run, an artifact, a prepared corpus, or of a folder of its own.

    Raises:
        ArtifactError: there is none.
        UsageError: it is of a kind that the task cannot do with.
    """
    folder = Path(path)
    return _checked(job, TokenizerPair.load(folder / TOKENIZER if (folder / TOKENIZER).is_dir() else folder))


def _checked(job: Job, tokenizer: TokenizerPair) -> TokenizerPair:
    if job.task == "seq2seq":
        check_special_ids(tokenizer)
    if job.task == "fill_mask" and not isinstance(tokenizer.target, WordPieceTokenizer):
        raise UsageError(
            "`tokenizer` must be one of word pieces for the task 'fill_mask', with [CLS], [SEP] and [MASK]; received "
            f"{type(tokenizer.target).__name__}. Name the folder of a BERT, or leave it out to train one."
        )
    return tokenizer
