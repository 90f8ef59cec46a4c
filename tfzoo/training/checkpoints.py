"""Checkpoints: all that the next training step depends on, in files that other tools open too.

    RUN_DIR/checkpoints/step-00000100/
        state.safetensors   model/PATH and optimizer/PATH for each variable, seed/0, seed/1 ... for the dropout states
        state.json          step, history (one record per checkpoint so far), checksums

A checkpoint is written aside and renamed, so that a killed run leaves a whole one or none. Both files are
checksummed, and nothing is assigned to a model before everything fits. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from tfzoo.errors import CheckpointError

# What was measured at one checkpoint, by name; always holds "step" and "nats_per_token".
Record = dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint on disk, its state.json read and its tensors not.

    Args:
        folder: where it is.
        step: updates that its weights have seen.
        history: one record per checkpoint of the run, this one last.
        sha256: hexadecimal checksum that state.safetensors must have.
    """

    folder: Path
    step: int
    history: list[Record]
    sha256: str


def steps(run_dir: str | Path) -> list[int]:
    """Returns the steps that have a checkpoint, ascending; half-written ones do not count."""
    matches = (re.fullmatch(r"step-(\d{8,})", path.name) for path in _root(run_dir).glob("step-*"))
    return sorted(int(match[1]) for match in matches if match)


def newest(run_dir: str | Path) -> Checkpoint:
    """Returns the checkpoint of the highest step.

    Raises:
        CheckpointError: the run has no checkpoint, or its state.json is missing or damaged.
    """
    saved = steps(run_dir)
    if not saved:
        raise CheckpointError(f"{_root(run_dir)} holds no checkpoint; train the run first.")
    return _read(_folder(run_dir, saved[-1]))


def best(run_dir: str | Path) -> Checkpoint:
    """Returns the checkpoint with the fewest nats per token among those kept (see `best_record`).

    Raises:
        CheckpointError: the run has no checkpoint, or a state.json is missing or damaged.
    """
    kept = steps(run_dir)
    history = [record for record in newest(run_dir).history if record["step"] in kept]
    return _read(_folder(run_dir, int(best_record(history)["step"])))


def best_record(history: list[Record]) -> Record:
    """Returns the record with the fewest nats per token, the earliest of equals.

    Validation decides; training does where the newest checkpoint was not validated.

    >>> best_record([{"step": 10, "nats_per_token": 2.0, "val_nats_per_token": 2.5},
    ...              {"step": 20, "nats_per_token": 1.0, "val_nats_per_token": 2.1},
    ...              {"step": 30, "nats_per_token": 0.5, "val_nats_per_token": 2.3}])["step"]
    20
    """
    key = "val_nats_per_token" if "val_nats_per_token" in history[-1] else "nats_per_token"
    return min((record for record in history if key in record), key=lambda record: record[key])


def save(model: keras.Model, run_dir: str | Path, history: list[Record]) -> Checkpoint:
    """Writes the state of a built and compiled model as the checkpoint of the last record's step.

    Raises:
        CheckpointError: the step has a checkpoint already, or two variables have one path.
    """
    step = int(history[-1]["step"])
    folder = _folder(run_dir, step)
    if folder.exists():
        raise CheckpointError(f"{folder} exists already; delete it or train into another run_dir.")
    aside = folder.with_name(f".tmp-{folder.name}")
    aside.mkdir(parents=True)
    tensors = {name: np.asarray(variable.numpy(), order="C") for name, variable in _variables(model).items()}
    save_file(tensors, aside / "state.safetensors")
    sha256 = _file_sha256(aside / "state.safetensors")
    fields = {"step": step, "history": history, "sha256": sha256}
    text = json.dumps({**fields, "state_sha256": _fields_sha256(fields)}, indent=1)
    (aside / "state.json").write_text(text, encoding="utf-8")
    shutil.copymode(aside / "state.json", aside / "state.safetensors")  # safetensors makes it private
    for path in aside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    aside.rename(folder)
    return Checkpoint(folder=folder, step=step, history=list(history), sha256=sha256)


def restore(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Puts weights, optimizer and dropout states into a built model that is compiled with a built optimizer.

    Raises:
        CheckpointError: state.safetensors is missing, damaged, or of another model or optimizer.
    """
    _assign(_variables(model), checkpoint, prefixes=("model/", "optimizer/", "seed/"))


def load_weights(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Puts the weights alone into a built model, to predict with or to export.

    Raises:
        CheckpointError: state.safetensors is missing, damaged, or of another model.
    """
    _assign(_model_variables(model), checkpoint, prefixes=("model/",))


def prune(run_dir: str | Path, keep: int) -> None:
    """Deletes all checkpoints but the newest `keep` and the best."""
    kept = {*steps(run_dir)[-keep:], best(run_dir).step}
    for step in set(steps(run_dir)) - kept:
        folder = _folder(run_dir, step)
        # Renamed first: a run killed while deleting must not leave something that looks whole.
        shutil.rmtree(folder.rename(folder.with_name(f".tmp-{folder.name}")))


def clean(run_dir: str | Path) -> None:
    """Deletes what a killed run left half-written or half-deleted."""
    for path in _root(run_dir).glob(".tmp-step-*"):
        shutil.rmtree(path)


def _root(run_dir: str | Path) -> Path:
    return Path(run_dir) / "checkpoints"


def _folder(run_dir: str | Path, step: int) -> Path:
    return _root(run_dir) / f"step-{step:08d}"


def _read(folder: Path) -> Checkpoint:
    path = folder / "state.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        checksum = fields.pop("state_sha256")
        checkpoint = Checkpoint(folder=folder, **fields)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing. {_way_out(folder)}") from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). {_way_out(folder)}") from error
    if checksum != _fields_sha256(fields):
        raise CheckpointError(f"{path} is damaged: its checksum differs. {_way_out(folder)}")
    return checkpoint


def _assign(variables: dict[str, keras.Variable], checkpoint: Checkpoint, *, prefixes: tuple[str, ...]) -> None:
    path = checkpoint.folder / "state.safetensors"
    if not path.exists():
        raise CheckpointError(f"{path} is missing. {_way_out(checkpoint.folder)}")
    if _file_sha256(path) != checkpoint.sha256:
        raise CheckpointError(f"{path} is damaged: its checksum differs. {_way_out(checkpoint.folder)}")
    with safe_open(path, framework="np") as file:
        saved = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}
    differences = list(_differences(variables, saved))
    if differences:
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        raise CheckpointError(
            f"{path} does not fit the model: {differences[0]}{more}. "
            "Build the model and its training from this run's own recipe, or train into another run_dir."
        )
    for name, variable in variables.items():
        variable.assign(saved[name])


def _differences(variables: dict[str, keras.Variable], saved: dict[str, np.ndarray]) -> Iterable[str]:
    for name in sorted(variables.keys() - saved.keys()):
        yield f"{name!r} is in the model only"
    for name in sorted(saved.keys() - variables.keys()):
        yield f"{name!r} is in the checkpoint only"
    for name in sorted(variables.keys() & saved.keys()):
        theirs = f"{saved[name].dtype} {saved[name].shape}"
        ours = f"{variables[name].dtype} {tuple(variables[name].shape)}"
        if theirs != ours:
            yield f"{name!r} is {theirs} in the checkpoint and {ours} in the model"


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    variables = _model_variables(model)
    weights = {id(variable) for variable in variables.values()}
    # Keras names dropout states by a counter of the process; their order is the model's own.
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    variables |= {f"seed/{index}": variable for index, variable in enumerate(seeds)}
    # "adam/MODEL_encoder_kernel_momentum" -> "optimizer/adam/encoder_kernel_momentum"
    paths = (variable.path.replace(f"/{model.name}_", "/", 1) for variable in model.optimizer.variables)
    return variables | _by_path("optimizer", paths, model.optimizer.variables)


def _model_variables(model: keras.Model) -> dict[str, keras.Variable]:
    # Without the model's own name, which Keras numbers when a process builds a second one.
    paths = (variable.path.removeprefix(f"{model.name}/") for variable in model.weights)
    return _by_path("model", paths, model.weights)


def _by_path(prefix: str, paths: Iterable[str], variables: list[keras.Variable]) -> dict[str, keras.Variable]:
    named: dict[str, keras.Variable] = {}
    for path, variable in zip(paths, variables, strict=True):
        name = f"{prefix}/{path}"
        if name in named:
            raise CheckpointError(f"two variables have the path {variable.path!r}; give their layers distinct names.")
        named[name] = variable
    return named


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fields_sha256(fields: dict) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _way_out(folder: Path) -> str:
    return f"Delete {folder} to go on from the checkpoint before it."
