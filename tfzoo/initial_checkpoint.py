"""What a run begins with in place of fresh weights: those of another run, or of a Hugging Face checkpoint.

The new run takes the checkpoint's tokenizer, and so its vocabulary sizes. Variables are found by their paths.
Embeddings and blocks must all be there; a head that the checkpoint lacks, or that is for other labels, starts fresh.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import logging

from tfzoo.errors import CheckpointError, RecipeError, UsageError
from tfzoo.models.config import ModelConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.run_folder import RECIPE, TOKENIZER, choose_checkpoints, read_recipe
from tfzoo.text import TokenizerPair

if TYPE_CHECKING:
    import keras
    import numpy as np

# Fields of a model's configuration that may differ: what the tokenizer decides, the head, and what training alone uses.
_MAY_DIFFER = (
    "vocabulary_size",
    "pad_id",
    "start_id",
    "end_id",
    "mask_id",
    "task",
    "num_texts",
    "labels",
    "problem",
    "next_sentence",
    "dropout",
    "locked_dropout",
    "embedding_dropout",
    "weight_drop",
)
# Fields of which it matters alone whether they are None.
_OF_TOKENIZER = ("source_vocabulary_size",)


class InitialCheckpoint(NamedTuple):
    """A checkpoint that was read.

    name: as the recipe has it; config: of its model; tokenizer: its own; weights: variable path below the model's
    name -> value.
    """

    name: str
    config: ModelConfig
    tokenizer: TokenizerPair
    weights: dict[str, np.ndarray]


def read(recipe: Recipe, run_dir: Path) -> InitialCheckpoint | None:
    """Returns what a run is to begin with; None for fresh weights, and for a run that has a checkpoint of its own.

    Args:
        recipe: its `training.initial_checkpoint` says what: "sample:NAME", the folder of a run, or one of Hugging
            Face's.
        run_dir: the new run; it need not exist.

    Raises:
        UsageError: there is no such checkpoint, it is of another family, or the run began with weights from elsewhere.
        RecipeError: the model's sizes are not those of the checkpoint, or there are no weights to freeze or adapt.
        CheckpointError: the checkpoint is damaged.
    """
    from tfzoo.training import checkpoints

    training, steps = recipe.training, checkpoints.steps(run_dir)
    name = training.initial_checkpoint
    if name is None:
        frozen = [field for field in ("lora_rank", "frozen_layers") if getattr(training, field)]
        if frozen and not steps:
            raise RecipeError(
                f"`{frozen[0]}` keeps weights as they are, and this run has none yet but random ones; received "
                f"{frozen[0]}={getattr(training, frozen[0])}. Name some by training.initial_checkpoint."
            )
        return None
    if steps == [0]:
        raise UsageError(
            f"{run_dir} begins with weights of its own; received training.initial_checkpoint={name}. Set it to none, "
            "or train into another run_dir."
        )
    if steps:
        return None
    found = _read(name)
    if type(found.config) is not type(recipe.model):
        raise UsageError(
            f"`training.initial_checkpoint` {name} is of a {type(found.config).__name__}, and the recipe "
            f"{recipe.name!r} of a {type(recipe.model).__name__}; name a checkpoint of the same family."
        )
    _check_sizes(recipe.model, found)
    return found


def load(model: keras.Model, initial: InitialCheckpoint) -> None:
    """Puts weights into a built model, and logs which start fresh and which found no place.

    Args:
        model: of the run, with its labels.
        initial: from `read`.

    Raises:
        CheckpointError: a variable of the embeddings or blocks is missing, or of another shape.
    """
    from tfzoo.training.fine_tuning import depth

    other_labels = _labels(model.config) != _labels(initial.config)
    unused, fresh = dict(initial.weights), []
    for variable in model.weights:
        path = variable.path.removeprefix(f"{model.name}/")
        layer = path.partition("/")[0]
        # The classifier of a task has its name.
        value = None if layer == model.task and other_labels else unused.get(path)
        if value is not None and value.shape == tuple(variable.shape):
            variable.assign(unused.pop(path))
        elif depth(layer) < 0:
            fresh.append(path)
        else:
            received = "lacks it" if value is None else f"has {value.shape}"
            raise CheckpointError(
                f"`training.initial_checkpoint` {initial.name}: the model needs {path} of {tuple(variable.shape)}, and "
                f"the checkpoint {received}. Give a whole checkpoint of the same family and size."
            )
    logging.info("%d weights are those of %s", len(initial.weights) - len(unused), initial.name)
    logging.info("fresh: %s; left behind: %s", ", ".join(fresh) or "none", ", ".join(sorted(unused)) or "none")


def _read(name: str) -> InitialCheckpoint:
    from tfzoo.interop import hf
    from tfzoo.training import checkpoints

    path = Path(name)
    if not name.startswith("sample:") and not path.is_dir():
        raise UsageError(
            f"`training.initial_checkpoint` {name} is no folder; name that of a run, or one of Hugging Face's, or "
            "sample:NAME."
        )
    if not (path / RECIPE).exists():
        config, tokenizer, weights = hf.read_encoder(name)
        return InitialCheckpoint(name, config, TokenizerPair(tokenizer, tokenizer), weights)
    recipe = read_recipe(path / RECIPE)
    weights = checkpoints.read_weights(*choose_checkpoints(recipe, path))
    return InitialCheckpoint(name, recipe.model, TokenizerPair.load(path / TOKENIZER), weights)


def _check_sizes(config: ModelConfig, found: InitialCheckpoint) -> None:
    for field in dataclasses.fields(config):
        ours, theirs = getattr(config, field.name), getattr(found.config, field.name)
        if field.name in _OF_TOKENIZER:
            differs = (ours is None) != (theirs is None)
        else:
            differs = field.name not in _MAY_DIFFER and ours != theirs
        if differs:
            raise RecipeError(
                f"`model.{field.name}` must be that of `training.initial_checkpoint` {found.name}, {theirs!r}; "
                f"received model.{field.name}={ours!r}. Set it so, or name another checkpoint."
            )


def _labels(config: ModelConfig) -> tuple[Any, ...]:
    return getattr(config, "labels", ()), getattr(config, "problem", None)
