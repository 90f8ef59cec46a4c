"""A run on disk: made once, then opened by every command.

    requested_recipe.json   the recipe as asked for; the same one again resumes the run
    recipe.json             the recipe with the vocabulary sizes of the trained tokenizer and the labels of its data
    tokenizer/              its files
    examples.json           a few source texts that training does not see, for the proof of an export
    checkpoints/            see tfzoo.training.checkpoints
    metrics.jsonl, tensorboard/

Each file but the last line's is written aside and renamed, so that a killed process leaves a whole one or none.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from absl import logging

from tfzoo import run_data
from tfzoo.data.config import AnyDataConfig, CausalLmDataConfig
from tfzoo.errors import CheckpointError, RecipeError, UsageError
from tfzoo.folders import new_folder
from tfzoo.models.config import BertConfig, GPT2Config, GruSeq2SeqConfig, LstmLmConfig
from tfzoo.recipes.recipe import Recipe, differences, from_json, to_json
from tfzoo.runtime.head import Head
from tfzoo.runtime.loaded import Loaded, predictor_of
from tfzoo.text import TokenizerPair, train_pair
from tfzoo.text.word_piece import WordPieceTokenizer

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfzoo.training.checkpoint_files import Checkpoint

RECIPE, REQUESTED, EXAMPLES, TOKENIZER = "recipe.json", "requested_recipe.json", "examples.json", "tokenizer"
# A run may go on with other values of these; everything else decides what the weights become.
_FREE_FIELDS = (
    "training.num_steps",
    "training.keep_checkpoints",
    "training.average_checkpoints",
    "training.average",
    "training.monitor",
    "training.early_stopping_patience",
    "decoding",
    "evaluation",
)
# A run that began with weights from elsewhere has trained nothing at step 0: all but what the weights were made for.
_FREE_AT_STEP_0 = (*_FREE_FIELDS, "name", "data", "training", "model.dropout")


class Run(Loaded):
    """A run folder: `model` with the run's weights, `tokenizer`, `recipe`; callable on a list of texts.

    The weights are those of `checkpoints`: of the best one, or the mean of those that the recipe's
    `training.average_checkpoints` asks for, of which `checkpoint` is the newest.

    Args:
        run_dir: the folder.

    Raises:
        UsageError: the folder is not a run.
        CheckpointError: there is no checkpoint yet, fewer than are to be averaged, or one is damaged.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        from tfzoo.runtime.keras import keras_backend
        from tfzoo.training import checkpoints

        self.directory = Path(run_dir)
        self.recipe = read_recipe(self.directory / RECIPE)
        tokenizer = TokenizerPair.load(self.directory / TOKENIZER)
        self.model = build_model(self.recipe)
        self.checkpoints = choose_checkpoints(self.recipe, self.directory)
        self.checkpoint = self.checkpoints[-1]
        checkpoints.load_weights(self.model, *self.checkpoints)
        super().__init__(
            predictor_of(
                keras_backend(self.model, tokenizer), tokenizer, Head.of(self.recipe.model), self.recipe.decoding
            )
        )

    @property
    def metrics(self) -> dict[str, float]:
        """What training measured of these weights; of a mean, and between two records, nothing but their step."""
        if len(self.checkpoints) > 1:
            return {"step": self.checkpoint.step, "averaged_checkpoints": len(self.checkpoints)}
        records = [record for record in self.checkpoint.history if record["step"] == self.checkpoint.step]
        return records[-1] if records else {"step": self.checkpoint.step}


def choose_checkpoints(recipe: Recipe, run_dir: Path) -> list[Checkpoint]:
    """Returns the checkpoints whose mean are the run's weights: the best one, or as many as the recipe averages.

    Raises:
        CheckpointError: there is no checkpoint yet, fewer than are to be averaged, or one is damaged.
    """
    from tfzoo.training import averaging, checkpoints

    training = recipe.training
    if not training.average_checkpoints:
        return [checkpoints.best(run_dir, training.monitor)]
    if training.average == "best":
        return averaging.best(run_dir, training.average_checkpoints, training.monitor)
    return averaging.last(run_dir, training.average_checkpoints)


def build_model(recipe: Recipe, *, for_training: bool = False) -> keras.Model:
    """Makes a recipe's model with fresh weights.

    Args:
        recipe: with the vocabulary sizes of its tokenizer, and the labels of its data.
        for_training: whether it computes in the recipe's precision, carries its state from batch to batch, if the
            recipe's data continue each other, and reads its own predictions, if the recipe forces less than all of the
            target.
    """
    from tfzoo import models

    dtype = recipe.training.precision if for_training else "float32"
    if isinstance(recipe.model, LstmLmConfig):
        carries = for_training and isinstance(recipe.data, CausalLmDataConfig) and recipe.data.examples == "contiguous"
        carried_batch_size = recipe.data.batch_size if carries else None
        return models.LstmLanguageModel(recipe.model, carried_batch_size=carried_batch_size, dtype=dtype)
    if isinstance(recipe.model, BertConfig):
        return models.Bert(recipe.model, dtype=dtype)
    if isinstance(recipe.model, GruSeq2SeqConfig):
        from tfzoo.training.schedules import build_teacher_forcing

        ratio = build_teacher_forcing(recipe.training) if for_training else 1.0
        return models.GruSeq2Seq(recipe.model, teacher_forcing_ratio=ratio, dtype=dtype)
    if isinstance(recipe.model, GPT2Config):
        return models.GPT2(recipe.model, dtype=dtype)
    return models.Transformer(recipe.model, dtype=dtype)


def prepare(recipe: Recipe, run_dir: Path, given: TokenizerPair | None = None) -> tuple[Recipe, TokenizerPair]:
    """Makes the folder with its recipe and tokenizer, or checks that it holds this very recipe.

    Args:
        recipe: what to train, with its data.
        run_dir: an absent or empty folder, or a run; a run without a checkpoint may begin again with another recipe,
            and one at step 0 with other data and training.
        given: the tokenizer of a run without a checkpoint; None = that of its prepared corpus, or one is trained on
            its data.

    Returns: the recipe with the vocabulary sizes of the tokenizer and the labels of its data, and the tokenizer.

    Raises:
        UsageError: the folder holds something else, or was started with another recipe.
        DataError: the data is missing or malformed; then nothing has been written.
        CheckpointError: the folder's recipe is damaged.
    """
    from tfzoo.training import checkpoints

    if (run_dir / REQUESTED).exists():
        started = read_recipe(run_dir / REQUESTED)
        steps = checkpoints.steps(run_dir)
        free = _FREE_AT_STEP_0 if steps == [0] else _FREE_FIELDS
        changed = [name for name in differences(started, recipe) if name not in free and name.split(".")[0] not in free]
        if changed and steps:
            raise UsageError(
                f"{run_dir} was started with {changed[0]}={_field(started, changed[0])}; received "
                f"{changed[0]}={_field(recipe, changed[0])}. Resume it with the same recipe and data, or train into "
                "another run_dir."
            )
        if changed:  # nothing is trained yet that another recipe could spoil
            shutil.rmtree(run_dir / TOKENIZER, ignore_errors=True)
        elif steps == [0] and started != recipe:
            _write_request(run_dir, recipe, run_data.examples(recipe))
    elif run_dir.exists() and (not run_dir.is_dir() or any(path.name != f".{REQUESTED}" for path in run_dir.iterdir())):
        raise UsageError(f"`run_dir` {run_dir} exists and is not a run; name another folder.")
    corpus = run_data.prepared(recipe, recipe.data.train)
    if corpus is not None and given is None and not checkpoints.steps(run_dir):
        given = corpus.tokenizer
    is_new = given is not None or not (run_dir / TOKENIZER).exists()
    if is_new:
        for spec in (*recipe.data.train, *recipe.data.validation):
            run_data.look_up(recipe, spec)  # what is misspelt should not wait for the tokenizer
    labels = _labels(recipe, run_dir)
    if is_new:
        tokenizer = given or train_pair(recipe.tokenizer, _texts(recipe), recipe.model.vocabulary_size)
        examples = run_data.examples(recipe)
        run_dir.mkdir(parents=True, exist_ok=True)
        _write_request(run_dir, recipe, examples)
        aside = run_dir / f".{TOKENIZER}"
        shutil.rmtree(aside, ignore_errors=True)
        tokenizer.save(aside)
        shutil.rmtree(run_dir / TOKENIZER, ignore_errors=True)
        aside.rename(run_dir / TOKENIZER)
    tokenizer = TokenizerPair.load(run_dir / TOKENIZER)
    suffix = recipe.data.separator if _learns_answers(recipe.data) else ""
    if tokenizer.prompt_suffix != suffix:
        tokenizer = dataclasses.replace(tokenizer, prompt_suffix=suffix)
        tokenizer.save(run_dir / TOKENIZER)
    fields = _of_tokenizer(recipe, tokenizer) | ({"labels": labels} if labels else {})
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **fields))
    _write(run_dir / RECIPE, to_json(recipe))
    return recipe, tokenizer


def join(recipe: Recipe, run_dir: Path) -> tuple[Recipe, TokenizerPair]:
    """Reads what another process has prepared, and writes nothing.

    Args:
        recipe: what this process is to train.
        run_dir: the run, on a file system that both share.

    Returns: what `prepare` returned there.

    Raises:
        UsageError: the folder is not there, or is for another recipe.
        CheckpointError: it is damaged.
    """
    if not (run_dir / RECIPE).exists():
        raise UsageError(
            f"`run_dir` {run_dir} must be on a file system that all workers share; the chief has made it, and this "
            "worker does not see it."
        )
    prepared = read_recipe(run_dir / RECIPE)
    for name in ("data", "training"):
        if getattr(prepared, name) != getattr(recipe, name):
            raise UsageError(
                f"all workers must be started with the same command; the chief's recipe has {name}="
                f"{getattr(prepared, name)}, and this worker's {getattr(recipe, name)}."
            )
    return prepared, TokenizerPair.load(run_dir / TOKENIZER)


def _of_tokenizer(recipe: Recipe, tokenizer: TokenizerPair) -> dict[str, Any]:
    """The model's fields that the trained tokenizer decides."""
    fields: dict[str, Any] = {
        "vocabulary_size": tokenizer.target.vocabulary_size,
        "pad_id": tokenizer.target.pad_id,
        "start_id": tokenizer.target.start_id,
        "end_id": tokenizer.target.end_id,
    }
    if recipe.task == "seq2seq":
        shared = recipe.tokenizer.target is None
        fields["source_vocabulary_size"] = None if shared else tokenizer.source.vocabulary_size
    if isinstance(tokenizer.target, WordPieceTokenizer) and isinstance(recipe.model, BertConfig):
        fields["mask_id"] = tokenizer.target.mask_id
    return fields


def _labels(recipe: Recipe, run_dir: Path) -> tuple[str, ...]:
    """The labels of the recipe's data, which must be those that the run's weights were trained for."""
    from tfzoo.training import checkpoints

    labels = run_data.labels(recipe)
    if labels and any(checkpoints.steps(run_dir)):
        started = read_recipe(run_dir / RECIPE).model
        if isinstance(started, BertConfig) and started.labels != labels:
            raise UsageError(
                f"{run_dir} was started with data that has the labels {', '.join(started.labels)}; now it has "
                f"{', '.join(labels)}. Resume it with the same data, or train into another run_dir."
            )
    return labels


def begin(
    recipe: Recipe,
    tokenizer: TokenizerPair,
    weights: Mapping[str, np.ndarray],
    run_dir: Path,
    examples: Sequence[str],
) -> None:
    """Makes a run at step 0 of weights from elsewhere, whole or not at all.

    Args:
        recipe: what the weights are of, and how to train them further.
        tokenizer: theirs.
        weights: variable path below the model's name -> value.
        run_dir: an absent or empty folder.
        examples: a few texts for the proof of an export; training data replaces them.

    Raises:
        UsageError: `run_dir` is not empty.
    """
    from tfzoo.training import checkpoints

    with new_folder(run_dir, "run_dir") as aside:
        _write_request(aside, recipe, examples)
        _write(aside / RECIPE, to_json(recipe))
        tokenizer.save(aside / TOKENIZER)
        checkpoints.begin(aside, weights)


def _write_request(run_dir: Path, recipe: Recipe, examples: Sequence[str]) -> None:
    _write(run_dir / REQUESTED, to_json(recipe))
    _write(run_dir / EXAMPLES, json.dumps(examples, ensure_ascii=False, indent=2) + "\n")


def _field(recipe: Recipe, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), recipe)


def _learns_answers(data: AnyDataConfig) -> TypeGuard[CausalLmDataConfig]:
    return isinstance(data, CausalLmDataConfig) and data.examples == "prompt_answer"


def _texts(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    num_records = 0
    for record in run_data.texts(recipe):
        yield record
        num_records += 1
    logging.info("training the tokenizer on %d examples", num_records)


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def read_recipe(path: Path) -> Recipe:
    """Returns a recipe of a run.

    Args:
        path: RUN_DIR/recipe.json or RUN_DIR/requested_recipe.json.

    Raises:
        UsageError: the folder is not a run.
        CheckpointError: the recipe is damaged.
    """
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
