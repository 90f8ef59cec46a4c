"""A run on disk: made once, then opened by every command.

    requested_recipe.json   the recipe as asked for; the same one again resumes the run
    recipe.json             the recipe with the vocabulary sizes that the trained tokenizer has
    tokenizer/              its files
    examples.json           a few source texts that training does not see, for the proof of an export
    checkpoints/            see tfzoo.training.checkpoints
    metrics.jsonl, tensorboard/

Each file but the last line's is written aside and renamed, so that a killed process leaves a whole one or none.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging

from tfzoo.data.sources import read
from tfzoo.errors import CheckpointError, RecipeError, UsageError
from tfzoo.recipes.recipe import Recipe, differences, from_json, to_json
from tfzoo.runtime.predictor import Predictor
from tfzoo.text import TokenizerPair, train_pair

if TYPE_CHECKING:
    import keras

RECIPE, REQUESTED, EXAMPLES, TOKENIZER = "recipe.json", "requested_recipe.json", "examples.json", "tokenizer"
NUM_EXAMPLES = 5
# A run may go on with other values of these; everything else decides what the weights become.
_FREE_FIELDS = (
    "training.num_steps",
    "training.keep_checkpoints",
    "training.early_stopping_patience",
    "decoding",
    "evaluation",
)


class Run(Predictor):
    """A run folder: `model` with the best checkpoint's weights, `tokenizer`, `recipe`; callable on a list of texts.

    Args:
        run_dir: the folder.

    Raises:
        UsageError: the folder is not a run.
        CheckpointError: there is no checkpoint yet, or it is damaged.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        from tfzoo.runtime.keras import KerasBackend
        from tfzoo.training import checkpoints

        self.directory = Path(run_dir)
        self.recipe = _read_recipe(self.directory / RECIPE)
        tokenizer = TokenizerPair.load(self.directory / TOKENIZER)
        self.model = build_model(self.recipe)
        self.checkpoint = checkpoints.best(self.directory)
        checkpoints.load_weights(self.model, self.checkpoint)
        super().__init__(
            KerasBackend(self.model, tokenizer), tokenizer, self.recipe.decoding, self.recipe.model.max_sequence_length
        )


def build_model(recipe: Recipe) -> keras.Model:
    """Makes a recipe's model with fresh weights."""
    from tfzoo import models

    return models.Transformer(recipe.model)


def prepare(recipe: Recipe, run_dir: Path) -> tuple[Recipe, TokenizerPair]:
    """Makes the folder with its recipe and tokenizer, or checks that it holds this very recipe.

    Args:
        recipe: what to train, with its data.
        run_dir: an absent or empty folder, or a run; a run without a checkpoint may begin again with another recipe.

    Returns: the recipe with the vocabulary sizes of the tokenizer, and the tokenizer.

    Raises:
        UsageError: the folder holds something else, or was started with another recipe.
        DataError: the data is missing or malformed; then nothing has been written.
        CheckpointError: the folder's recipe is damaged.
    """
    from tfzoo.training import checkpoints

    if (run_dir / REQUESTED).exists():
        started = _read_recipe(run_dir / REQUESTED)
        changed = [
            name
            for name in differences(started, recipe)
            if name not in _FREE_FIELDS and name.split(".")[0] not in _FREE_FIELDS
        ]
        if changed and checkpoints.steps(run_dir):
            raise UsageError(
                f"{run_dir} was started with {changed[0]}={_field(started, changed[0])}; received "
                f"{changed[0]}={_field(recipe, changed[0])}. Resume it with the same recipe and data, or train into "
                "another run_dir."
            )
        if changed:  # nothing is trained yet that another recipe could spoil
            shutil.rmtree(run_dir / TOKENIZER, ignore_errors=True)
    elif run_dir.exists() and (not run_dir.is_dir() or any(path.name != f".{REQUESTED}" for path in run_dir.iterdir())):
        raise UsageError(f"`run_dir` {run_dir} exists and is not a run; name another folder.")
    if not (run_dir / TOKENIZER).exists():
        for spec in (*recipe.data.train, *recipe.data.validation):
            read(spec)  # what is misspelt should not wait for the tokenizer
        tokenizer = train_pair(recipe.tokenizer, _records(recipe.data.train), recipe.model.vocabulary_size)
        examples = _first_sources(recipe.data.validation or recipe.data.train)
        run_dir.mkdir(parents=True, exist_ok=True)
        _write(run_dir / REQUESTED, to_json(recipe))
        _write(run_dir / EXAMPLES, json.dumps(examples, ensure_ascii=False, indent=2) + "\n")
        aside = run_dir / f".{TOKENIZER}"
        shutil.rmtree(aside, ignore_errors=True)
        tokenizer.save(aside)
        aside.rename(run_dir / TOKENIZER)
    tokenizer = TokenizerPair.load(run_dir / TOKENIZER)
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(
            recipe.model,
            vocabulary_size=tokenizer.target.vocabulary_size,
            source_vocabulary_size=None if tokenizer.shared else tokenizer.source.vocabulary_size,
        ),
    )
    _write(run_dir / RECIPE, to_json(recipe))
    return recipe, tokenizer


def _field(recipe: Recipe, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), recipe)


def _records(specs: Sequence[str]) -> Iterator[tuple[str, str]]:
    num_records = 0
    for spec in specs:
        for source, target in read(spec):
            yield source, target
            num_records += 1
    logging.info("training the tokenizer on %d examples", num_records)


def _first_sources(specs: Sequence[str]) -> list[str]:
    sources = (record[0] for spec in specs for record in read(spec))
    return list(itertools.islice(dict.fromkeys(itertools.islice(sources, 100)), NUM_EXAMPLES))


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _read_recipe(path: Path) -> Recipe:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} is not a run: {path.name} is missing. Name a folder that `tfzoo train` wrote."
        ) from None
    except (RecipeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); restore it, or train into another run_dir.") from error


def read_examples(run_dir: Path) -> list[str]:
    """Returns the run's source texts for the proof of an export.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    path = run_dir / EXAMPLES
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error}); write a JSON list of a few source texts there."
        ) from error
