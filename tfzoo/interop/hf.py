"""Checkpoint folders of Hugging Face's transformers, into runs and out of them.

    PATH/config.json             which model, and its numbers
    PATH/model.safetensors       its tensors; or several files, which model.safetensors.index.json lists
    PATH/vocab.json, merges.txt  its tokenizer, of GPT-2; or tokenizer.json alone
    PATH/vocab.txt               the same of BERT
    PATH/source.spm, target.spm, vocab.json    the same of Marian

"sample:minilm" in place of a PATH is such a folder in an installed package, see `tfzoo.interop.samples`. A family takes
part by a module with its table of names, such as `tfzoo.interop.hf_gpt2`, and a line in `FAMILIES`.
Pickles are never read: opening one runs whatever code is in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, by which safetensors then finds it
import numpy as np
from absl import logging
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tfzoo.errors import ArtifactError, CheckpointError, UsageError, nearest
from tfzoo.export.huggingface import config_files, fit_tokenizers
from tfzoo.export.sentence_transformers import write_pooling
from tfzoo.folders import new_folder
from tfzoo.interop import hf_bert, hf_gpt2, hf_marian, samples, sentence_transformers
from tfzoo.interop.hf_tables import Tensor
from tfzoo.models.config import BertConfig, TransformerConfig
from tfzoo.run_folder import RECIPE, TOKENIZER, begin, choose_checkpoints, read_recipe
from tfzoo.text import TokenizerPair, WordPieceTokenizer
from tfzoo.text.huggingface import to_bytes

FAMILIES = {"gpt2": hf_gpt2, "bert": hf_bert, "marian": hf_marian}
"""`model_type` in config.json -> its table."""
_WRITTEN = {"gpt2": hf_gpt2, "bert": hf_bert, "transformer": hf_marian}
"""Our family -> the same."""
ENCODERS = ("bert",)
"""Families whose encoder another task can start from."""

_CONFIG, _TENSORS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_DTYPES = ("F32", "F16", "BF16")
_WAY_OUT = "Give the whole checkpoint of the very model that its config.json describes."


class _Stored(NamedTuple):
    """Where a tensor is: the file's path, the file opened by safetensors, which reads when asked, the name there."""

    path: Path
    file: Any
    name: str


def read_checkpoint(checkpoint: str | os.PathLike[str], run_dir: str | os.PathLike[str]) -> None:
    """Makes a run at step 0 of a checkpoint, to predict with, to export and to train further.

    Args:
        checkpoint: a folder that transformers' `save_pretrained` wrote, or a model repository's files; or
            "sample:minilm".
        run_dir: an absent or empty folder.

    Raises:
        UsageError: `checkpoint` is no folder, or `run_dir` is not empty.
        CheckpointError: the checkpoint is incomplete or damaged, of a model that tfzoo does not have, or of a package
            that is not installed.
    """
    name, folder = _locate(checkpoint)
    family, config, tokenizer = _read_config(folder)
    weights = _read_weights(family, folder, family.tensors(config))
    begin(
        family.recipe(name, config),
        tokenizer,
        weights,
        Path(run_dir),
        family.examples(config),
    )


def read_encoder(
    checkpoint: str | os.PathLike[str],
) -> tuple[BertConfig, WordPieceTokenizer, dict[str, np.ndarray]]:
    """Reads what the training of another task can start from, without making a run.

    Args:
        checkpoint: as `read_checkpoint` takes it.

    Returns: the configuration, whose `task` is the checkpoint's own; the tokenizer; and variable path below the model's
        name -> value, float32. The variables are those of the encoder and of every head that the checkpoint has, the
        pooler included.

    Raises:
        UsageError: `checkpoint` is no folder.
        CheckpointError: the checkpoint is incomplete or damaged, of a model that is no encoder of tfzoo's, or of a
            package that is not installed.
    """
    _, folder = _locate(checkpoint)
    family, config, tokenizer = _read_config(folder, ENCODERS)
    weights = _read_weights(family, folder, family.tensors(config), family.other_tensors(config))
    return config, tokenizer.source, weights  # type: ignore[return-value]  # the family has checked its kind


def write_checkpoint(run_dir: str | os.PathLike[str], checkpoint: str | os.PathLike[str]) -> None:
    """Writes a run's best checkpoint as a folder that transformers loads.

    Args:
        run_dir: the run.
        checkpoint: an absent or empty folder.

    Raises:
        UsageError: `run_dir` is no run, transformers has no such model, or `checkpoint` is not empty.
        CheckpointError: the run has no checkpoint yet, or is damaged.
    """
    from tfzoo.training import checkpoints

    run_dir, checkpoint = Path(run_dir), Path(checkpoint)
    recipe = read_recipe(run_dir / RECIPE)
    if recipe.family not in _WRITTEN:
        raise UsageError(
            f"{run_dir} is of the family {recipe.family!r}; Hugging Face's format is written for {', '.join(_WRITTEN)}."
        )
    family = _WRITTEN[recipe.family]
    tokenizer = TokenizerPair.load(run_dir / TOKENIZER)
    if isinstance(recipe.model, TransformerConfig):
        hf_marian.check_written(run_dir, recipe.model, tokenizer)
    weights = checkpoints.read_weights(*choose_checkpoints(recipe, run_dir))
    tensors = {
        _full_name(family, name, family.PREFIX): _theirs(tensor, weights)
        for name, tensor in family.tensors(recipe.model).items()
    }
    with new_folder(checkpoint, "checkpoint") as aside:
        files = config_files(recipe.model, recipe.decoding)
        if isinstance(recipe.model, TransformerConfig):
            hf_marian.write_tokenizer(tokenizer, aside)
            files[_CONFIG] |= hf_marian.vocabulary_sizes(recipe.model)
        else:
            tokenizer.save(aside)
        fit_tokenizers(aside, recipe.model.max_sequence_length, recipe.task)
        for name, content in files.items():
            (aside / name).write_bytes(to_bytes(content))
        if recipe.task == "text_embedding":
            write_pooling(aside, recipe.model.hidden_dim)
        save_file(tensors, aside / _TENSORS, metadata={"format": "pt"})  # transformers asks for it
        shutil.copymode(aside / _CONFIG, aside / _TENSORS)  # safetensors makes it private


def _locate(checkpoint: str | os.PathLike[str]) -> tuple[str, Path]:
    """Returns what to call a checkpoint, and its folder."""
    if str(checkpoint).startswith(samples.PREFIX):
        name = str(checkpoint).removeprefix(samples.PREFIX)
        return name, samples.folder(name)
    folder = Path(checkpoint)
    if not folder.is_dir():
        raise UsageError(f"`checkpoint` {folder} is no folder; name one that holds {_CONFIG} and {_TENSORS}.")
    return folder.resolve().name, folder


def _read_config(folder: Path, families: Collection[str] = tuple(FAMILIES)) -> tuple[ModuleType, Any, TokenizerPair]:
    """Returns the family's table, our configuration, and the tokenizers."""
    plain = _read_json(folder / _CONFIG)
    family = _family(plain.get("model_type"), folder / _CONFIG, families)
    try:
        tokenizer = TokenizerPair.load(folder)
    except ArtifactError as error:
        raise CheckpointError(str(error)) from error
    try:
        config = family.read_config(plain, tokenizer.source if tokenizer.shared else tokenizer)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / _CONFIG}: {error}.") from error
    if config.task == "text_embedding":
        sentence_transformers.check_pooling(folder)
    return family, config, tokenizer


def _family(model_type: Any, where: Path, families: Collection[str]) -> ModuleType:
    if model_type not in families:
        raise CheckpointError(
            f"{where}: model_type is {model_type!r}; tfzoo reads {', '.join(families)}."
            f"{nearest(str(model_type), families)}"
        )
    return FAMILIES[model_type]


def _full_name(family: ModuleType, name: str, prefix: str) -> str:
    """A tensor's name in a file, where the base model's names have the prefix."""
    return name if family.HEADS.fullmatch(name) else prefix + name


def _read_weights(
    family: ModuleType,
    checkpoint: Path,
    expected: dict[str, Tensor],
    optional: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Our variable path -> its value, after every name, shape and type of theirs has been checked.

    Args:
        family: the table.
        checkpoint: the folder.
        expected: their name -> what must be there.
        optional: the same of what may be there.
    """
    stored = {_current(name, family.RENAMED): one for name, one in _stored(checkpoint).items()}
    prefix = family.PREFIX if any(name.startswith(family.PREFIX) for name in stored) else ""
    for name in expected:
        if _full_name(family, name, prefix) not in stored:
            raise CheckpointError(
                f"{checkpoint}: the tensor {_full_name(family, name, prefix)!r} is missing. {_WAY_OUT}"
            )
    expected = expected | {
        name: tensor for name, tensor in optional.items() if _full_name(family, name, prefix) in stored
    }
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    for copy, original in family.TIED.items():
        if original in shapes:
            shapes.setdefault(copy, shapes[original])
    full_names = {name: _full_name(family, name, prefix) for name in shapes}
    known = set(full_names.values())
    for name, one in stored.items():
        if name in known:
            continue
        if not family.IGNORED.fullmatch(name.removeprefix(prefix)):
            raise CheckpointError(f"{checkpoint}: the tensor {one.name!r} has no place in the model. {_WAY_OUT}")
        logging.info("%s: the tensor %s is passed over", checkpoint, one.name)
    for name, shape in shapes.items():
        if full_names[name] in stored:
            _check(shape, stored[full_names[name]])

    def read(name: str) -> np.ndarray:
        one = stored[full_names[name]]
        return one.file.get_tensor(one.name).astype(np.float32)

    for copy, original in family.TIED.items():
        if copy in expected or copy not in shapes or full_names[copy] not in stored:
            continue
        while original not in expected:
            original = family.TIED[original]
        if not np.array_equal(read(copy), read(original)):
            raise CheckpointError(
                f"{checkpoint}: the tensor {full_names[copy]!r} differs from {full_names[original]!r}, and this model "
                "has one table for both. Give a checkpoint that was trained with both tied."
            )
    weights: dict[str, np.ndarray] = {}
    for name, tensor in expected.items():
        weights |= _ours(tensor, read(name))
    return weights


def _current(name: str, renamed: Mapping[str, str]) -> str:
    for old, new in renamed.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _ours(tensor: Tensor, value: np.ndarray) -> dict[str, np.ndarray]:
    """Our variable path -> its value."""
    value = np.ascontiguousarray(value.T) if tensor.transposed else value
    value = value[0] if tensor.row else value
    return dict(zip(tensor.parts, np.split(value, len(tensor.parts), axis=-1), strict=True))


def _theirs(tensor: Tensor, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """What `_ours` took apart."""
    value = np.concatenate([weights[part] for part in tensor.parts], axis=-1)
    value = value[np.newaxis] if tensor.row else value
    return np.ascontiguousarray(value.T) if tensor.transposed else value


def _check(shape: tuple[int, ...], stored: _Stored) -> None:
    path, file, name = stored
    found = file.get_slice(name)
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
            stored[name] = _Stored(path, file, name)
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
