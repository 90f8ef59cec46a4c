"""Checkpoint folders of Hugging Face's transformers, into runs and out of them.

    PATH/config.json             which model, and its numbers
    PATH/model.safetensors       its tensors; or several files, which model.safetensors.index.json lists
    PATH/vocab.json, merges.txt  its tokenizer; or tokenizer.json alone

A family takes part by a module with its table of names, such as `tfzoo.interop.hf_gpt2`, and a line in `FAMILIES`.
Pickles are never read: opening one runs whatever code is in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, by which safetensors then finds it
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tfzoo.errors import ArtifactError, CheckpointError, UsageError, nearest
from tfzoo.export.huggingface import config_files, fit_tokenizers
from tfzoo.interop import hf_gpt2
from tfzoo.run_folder import RECIPE, TOKENIZER, begin, choose_checkpoints, new_folder, read_recipe
from tfzoo.text import TokenizerPair, load
from tfzoo.text.huggingface import to_bytes

FAMILIES = {"gpt2": hf_gpt2}
"""`model_type` in config.json, which is also our family -> its table."""

_CONFIG, _TENSORS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_DTYPES = ("F32", "F16", "BF16")
_WAY_OUT = "Give the whole checkpoint of the very model that its config.json describes."


class _Stored(NamedTuple):
    """Where a tensor is: the file's path, and the file opened by safetensors, which reads tensors when asked."""

    path: Path
    file: Any


def read_checkpoint(checkpoint: str | os.PathLike[str], run_dir: str | os.PathLike[str]) -> None:
    """Makes a run at step 0 of a checkpoint, to predict with, to export and to train further.

    Args:
        checkpoint: a folder that transformers' `save_pretrained` wrote, or a model repository's files.
        run_dir: an absent or empty folder.

    Raises:
        UsageError: `checkpoint` is no folder, or `run_dir` is not empty.
        CheckpointError: the checkpoint is incomplete or damaged, or of a model that tfzoo does not have.
    """
    checkpoint, run_dir = Path(checkpoint), Path(run_dir)
    if not checkpoint.is_dir():
        raise UsageError(f"`checkpoint` {checkpoint} is no folder; name one that holds {_CONFIG} and {_TENSORS}.")
    plain = _read_json(checkpoint / _CONFIG)
    family = _family(plain.get("model_type"), checkpoint / _CONFIG)
    try:
        tokenizer = load(checkpoint)
    except ArtifactError as error:
        raise CheckpointError(str(error)) from error
    try:
        config = family.read_config(plain, tokenizer)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint / _CONFIG}: {error}.") from error
    weights = _read_weights(family, config, checkpoint)
    recipe = family.recipe(checkpoint.resolve().name, config)
    begin(recipe, TokenizerPair(tokenizer, tokenizer), weights, run_dir, family.EXAMPLES)


def write_checkpoint(run_dir: str | os.PathLike[str], checkpoint: str | os.PathLike[str]) -> None:
    """Writes a run's best checkpoint as a folder that transformers loads.

    Args:
        run_dir: the run.
        checkpoint: an absent or empty folder.

    Raises:
        UsageError: `run_dir` is no run, its family is not in `FAMILIES`, or `checkpoint` is not empty.
        CheckpointError: the run has no checkpoint yet, or is damaged.
    """
    from tfzoo.training import checkpoints

    run_dir, checkpoint = Path(run_dir), Path(checkpoint)
    recipe = read_recipe(run_dir / RECIPE)
    if recipe.family not in FAMILIES:
        raise UsageError(
            f"{run_dir} is of the family {recipe.family!r}; Hugging Face's format is written for {', '.join(FAMILIES)}."
        )
    family = FAMILIES[recipe.family]
    weights = checkpoints.read_weights(*choose_checkpoints(recipe, run_dir))
    tensors = {
        family.PREFIX + name: np.concatenate([weights.pop(part) for part in tensor.parts], axis=-1)
        for name, tensor in family.tensors(recipe.model).items()
    }
    with new_folder(checkpoint, "checkpoint") as aside:
        TokenizerPair.load(run_dir / TOKENIZER).save(aside)
        fit_tokenizers(aside, recipe.model.max_sequence_length, recipe.task)
        for name, content in config_files(recipe.model, recipe.decoding).items():
            (aside / name).write_bytes(to_bytes(content))
        save_file(tensors, aside / _TENSORS, metadata={"format": "pt"})  # transformers asks for it
        shutil.copymode(aside / _CONFIG, aside / _TENSORS)  # safetensors makes it private


def _family(model_type: Any, where: Path) -> ModuleType:
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{where}: model_type is {model_type!r}; tfzoo reads {', '.join(FAMILIES)}."
            f"{nearest(str(model_type), FAMILIES)}"
        )
    return FAMILIES[model_type]


def _read_weights(family: ModuleType, config: Any, checkpoint: Path) -> dict[str, np.ndarray]:
    """Our variable path -> its value, after every name, shape and type of theirs has been checked."""
    stored = _stored(checkpoint)
    prefix = family.PREFIX if any(name.startswith(family.PREFIX) for name in stored) else ""
    expected = family.tensors(config)
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    shapes |= {copy: shapes[original] for copy, original in family.TIED.items()}
    full_names = {name: name if name in family.TIED else prefix + name for name in shapes}
    for name in expected:
        if full_names[name] not in stored:
            raise CheckpointError(f"{checkpoint}: the tensor {full_names[name]!r} is missing. {_WAY_OUT}")
    known = set(full_names.values())
    for name in stored:
        if name not in known and not family.IGNORED.fullmatch(name.removeprefix(prefix)):
            raise CheckpointError(f"{checkpoint}: the tensor {name!r} has no place in the model. {_WAY_OUT}")
    for name, shape in shapes.items():
        if full_names[name] in stored:
            _check(full_names[name], shape, stored[full_names[name]])

    def read(name: str) -> np.ndarray:
        return stored[full_names[name]].file.get_tensor(full_names[name]).astype(np.float32)

    for copy, original in family.TIED.items():
        if copy in stored and not np.array_equal(read(copy), read(original)):
            raise CheckpointError(
                f"{checkpoint}: the tensor {copy!r} differs from {full_names[original]!r}, and this model has one "
                "table for both. Give a checkpoint that was trained with both tied."
            )
    weights: dict[str, np.ndarray] = {}
    for name, tensor in expected.items():
        weights |= zip(tensor.parts, np.split(read(name), len(tensor.parts), axis=-1), strict=True)
    return weights


def _check(name: str, shape: tuple[int, ...], stored: _Stored) -> None:
    found, path = stored.file.get_slice(name), stored.path
    if tuple(found.get_shape()) != shape:
        raise CheckpointError(
            f"{path}: the tensor {name!r} has the shape {tuple(found.get_shape())}, and {_CONFIG} asks for {shape}. "
            f"{_WAY_OUT}"
        )
    if found.get_dtype() not in _DTYPES:
        raise CheckpointError(
            f"{path}: the tensor {name!r} is of type {found.get_dtype()}; tfzoo reads {', '.join(_DTYPES)}. "
            "Save the model unquantized."
        )


def _stored(checkpoint: Path) -> dict[str, _Stored]:
    """Name of each tensor -> where it is."""
    if (checkpoint / _TENSORS).is_file():
        paths = [checkpoint / _TENSORS]
        listed: Mapping[str, str] | None = None
    elif (checkpoint / _INDEX).is_file():
        listed = _read_json(checkpoint / _INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise CheckpointError(f"{checkpoint / _INDEX} is damaged: it has no weight_map. Copy the file again.")
        paths = [checkpoint / Path(name).name for name in sorted(set(listed.values()))]
    else:
        pickles = sorted(path.name for path in checkpoint.glob("pytorch_model*.bin"))
        if pickles:
            raise CheckpointError(
                f"{checkpoint} holds its tensors in {pickles[0]}, a pickle, which can run any code when opened; tfzoo "
                f"reads {_TENSORS} alone. Load it where you trust it, and save it by "
                "model.save_pretrained(PATH, safe_serialization=True)."
            )
        raise CheckpointError(f"{checkpoint} holds neither {_TENSORS} nor {_INDEX}; copy the checkpoint again.")
    stored: dict[str, _Stored] = {}
    for path in paths:
        file = _open(path)
        for name in file.keys():
            if listed is not None and listed.get(name) != path.name:
                raise CheckpointError(f"{path} holds the tensor {name!r}, where {_INDEX} does not list it. {_WAY_OUT}")
            stored[name] = _Stored(path, file)
    for name in listed or ():
        if name not in stored:
            raise CheckpointError(f"{checkpoint}: the tensor {name!r} is listed by {_INDEX} and missing. {_WAY_OUT}")
    return stored


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; copy the checkpoint again.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the file again.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; copy the checkpoint again.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the file again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it is no JSON object; copy the file again.")
    return content
