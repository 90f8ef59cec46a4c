"""Checkpoints: all that the next training step depends on, in files that other tools open too.

    RUN_DIR/checkpoints/step-00000100/
        state.safetensors   model/PATH and optimizer/PATH for each variable, seed/0, seed/1 ... for the dropout states
                            and the state that a model carries from batch to batch
        state.json          step, history (one record per checkpoint so far), num_devices, checksums

Where attention is adapted (see tfzoo.training.fine_tuning), lora/PATH says how many times a layer's adapter counts:
`restore` gives it back as it was trained, every other reader takes the kernel that it makes.

Where the optimizer keeps a moving average of the weights, that is model/PATH, which every reader takes, and the weights
themselves are trained/PATH.

A run that begins with weights from elsewhere has a checkpoint of step 0, with model/PATH alone. A run that was asked to
end between two checkpoints leaves one without a record, which also holds progress/NAME, what was measured since the
last record; the next checkpoint replaces it.

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
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from tfzoo.errors import CheckpointError
from tfzoo.training.fine_tuning import adapter_scales, merge, without_effect
from tfzoo.training.measures import Record, best_record, best_records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint on disk, its state.json read and its tensors not.

    Args:
        folder: where it is.
        step: updates that its weights have seen.
        history: one record per checkpoint of the run, this one last unless it was made between two.
        sha256: hexadecimal checksum that state.safetensors must have.
        num_devices: devices that trained it, all processes together.
    """

    folder: Path
    step: int
    history: list[Record]
    sha256: str
    num_devices: int = 1


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


def best(run_dir: str | Path, monitor: str = "") -> Checkpoint:
    """Returns the best checkpoint among those kept (see `tfzoo.training.measures.best_record`).

    Where there is none but one between two records, it is that one.

    Args:
        run_dir: folder of the run.
        monitor: what decides; "" = the task's usual measure.

    Raises:
        CheckpointError: the run has no checkpoint, or a state.json is missing or damaged.
    """
    kept, last = steps(run_dir), newest(run_dir)
    history = [record for record in last.history if record["step"] in kept]
    return _read(_folder(run_dir, int(best_record(history, monitor)["step"]))) if history else last


def at(run_dir: str | Path, step: int) -> Checkpoint:
    """Returns the checkpoint of a step.

    Raises:
        CheckpointError: its state.json is missing or damaged.
    """
    return _read(_folder(run_dir, step))


def save(model: keras.Model, run_dir: str | Path, history: list[Record]) -> Checkpoint:
    """Writes the state of a built and compiled model as the checkpoint of the last record's step.

    Raises:
        CheckpointError: the step has a checkpoint already, or two variables have one path.
    """
    return _write(run_dir, history, _values(model), num_devices=_num_devices(model))


def save_between(
    model: keras.Model, run_dir: str | Path, history: list[Record], step: int, progress: Mapping[str, np.ndarray]
) -> Checkpoint:
    """Writes the state of a built and compiled model at a step without a record.

    Args:
        model: as for `save`.
        run_dir: folder of the run.
        history: the records so far, all of earlier steps.
        step: updates that the weights have seen.
        progress: what was measured since the last record; `read_progress` returns it.

    Raises:
        CheckpointError: the step has a checkpoint already, or two variables have one path.
    """
    tensors = _values(model) | {f"progress/{name}": one for name, one in progress.items()}
    return _write(run_dir, history, tensors, step, _num_devices(model))


def begin(run_dir: str | Path, weights: Mapping[str, np.ndarray]) -> Checkpoint:
    """Writes weights as the checkpoint of step 0, from which training goes on with a fresh optimizer.

    Args:
        run_dir: folder of the run.
        weights: variable path below the model's name -> value.

    Raises:
        CheckpointError: there is a checkpoint of step 0 already.
    """
    return _write(run_dir, [{"step": 0}], {f"model/{path}": value for path, value in weights.items()})


def _num_devices(model: keras.Model) -> int:
    return model.distribute_strategy.num_replicas_in_sync


def _write(
    run_dir: str | Path,
    history: list[Record],
    tensors: dict[str, np.ndarray],
    step: int | None = None,
    num_devices: int = 1,
) -> Checkpoint:
    step = int(history[-1]["step"]) if step is None else step
    folder = _folder(run_dir, step)
    if folder.exists():
        raise CheckpointError(f"{folder} exists already; delete it or train into another run_dir.")
    aside = folder.with_name(f".tmp-{folder.name}")
    aside.mkdir(parents=True)
    tensors = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    save_file(tensors, aside / "state.safetensors")
    sha256 = _file_sha256(aside / "state.safetensors")
    fields = {"step": step, "history": history, "sha256": sha256, "num_devices": num_devices}
    text = json.dumps({**fields, "state_sha256": _fields_sha256(fields)}, indent=1)
    (aside / "state.json").write_text(text, encoding="utf-8")
    shutil.copymode(aside / "state.json", aside / "state.safetensors")  # safetensors makes it private
    for path in aside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    aside.rename(folder)
    return Checkpoint(folder=folder, step=step, history=list(history), sha256=sha256, num_devices=num_devices)


def restore(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Puts weights, optimizer and dropout states into a built model that is compiled with a built optimizer.

    At step 0 there are weights alone; the others stay as they are.

    Raises:
        CheckpointError: state.safetensors is missing, damaged, or of another model or optimizer.
    """
    if not checkpoint.step:
        load_weights(model, checkpoint)
        return
    saved = _read_tensors(checkpoint, ("model/", "trained/", "optimizer/", "seed/", "lora/"))
    scales = {name: saved.pop(name) for name in sorted(saved) if name.startswith("lora/")}
    variables = _variables(model)
    _check_fit(variables, saved, checkpoint)
    if scales != _scales(model):
        raise CheckpointError(
            f"{checkpoint.folder / 'state.safetensors'} does not fit the model: its adapters count otherwise. Set "
            "`lora_rank` and `lora_alpha` as the run had them, or train into another run_dir."
        )
    _assign(variables, saved)


def load_weights(model: keras.Model, *averaged: Checkpoint) -> None:
    """Puts the weights alone into a built model, to predict with or to export.

    Args:
        model: the model.
        *averaged: one checkpoint, or several of which the mean is taken (Vaswani et al., 2017, section 6.1).

    Raises:
        CheckpointError: a state.safetensors is missing, damaged, or of another model.
    """
    variables = _model_variables(model)
    weights = {f"model/{path}": value for path, value in read_weights(*averaged).items()}
    for name, variable in variables.items():
        nothing = without_effect(name, variable)
        if nothing is not None:
            weights[name] = nothing
    _check_fit(variables, weights, averaged[-1])
    _assign(variables, weights)


def read_weights(*averaged: Checkpoint) -> dict[str, np.ndarray]:
    """Returns the weights alone, or the mean of several checkpoints' weights, by variable path below the model's name.

    Adapters are merged: the weights are those of the model without them.

    Raises:
        CheckpointError: a state.safetensors is missing or damaged.
    """
    weights = _read_merged(averaged[0])
    if len(averaged) > 1:
        dtypes = {name: value.dtype for name, value in weights.items()}
        # One after the other: memory for all of them may not be there.
        sums = {name: value.astype(np.float64) for name, value in weights.items()}
        for checkpoint in averaged[1:]:
            for name, value in _read_merged(checkpoint).items():
                sums[name] += value
        weights = {name: (total / len(averaged)).astype(dtypes[name]) for name, total in sums.items()}
    return weights


def read_progress(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Returns what `save_between` was given; nothing for the checkpoint of a record.

    Raises:
        CheckpointError: state.safetensors is missing or damaged.
    """
    if checkpoint.history and checkpoint.step == checkpoint.history[-1]["step"]:
        return {}
    return {name.removeprefix("progress/"): value for name, value in _read_tensors(checkpoint, ("progress/",)).items()}


def prune(run_dir: str | Path, keep: int, monitor: str = "", keep_best: int = 1) -> None:
    """Deletes all checkpoints but the newest, and of those that have a record the best and the newest.

    Args:
        run_dir: folder of the run.
        keep: how many of the newest are kept.
        monitor: what decides which are best.
        keep_best: how many of the best are kept.
    """
    last = newest(run_dir)
    recorded = {record["step"] for record in last.history}
    there = [record for record in last.history if record["step"] in steps(run_dir)]
    kept = {last.step, *[step for step in steps(run_dir) if step in recorded][-keep:]}
    kept |= {int(record["step"]) for record in best_records(there, keep_best, monitor)} if there else set()
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


def _read_tensors(checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> dict[str, np.ndarray]:
    path = checkpoint.folder / "state.safetensors"
    if not path.exists():
        raise CheckpointError(f"{path} is missing. {_way_out(checkpoint.folder)}")
    if _file_sha256(path) != checkpoint.sha256:
        raise CheckpointError(f"{path} is damaged: its checksum differs. {_way_out(checkpoint.folder)}")
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}


def _read_merged(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    tensors = _read_tensors(checkpoint, ("model/", "lora/"))
    named: dict[str, dict[str, np.ndarray]] = {"model": {}, "lora": {}}
    for name, value in tensors.items():
        prefix, _, path = name.partition("/")
        named[prefix][path] = value
    return merge(named["model"], named["lora"])


def _check_fit(variables: dict[str, keras.Variable], saved: dict[str, np.ndarray], checkpoint: Checkpoint) -> None:
    differences = list(_differences(variables, saved))
    if differences:
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        raise CheckpointError(
            f"{checkpoint.folder / 'state.safetensors'} does not fit the model: {differences[0]}{more}. "
            "Build the model and its training from this run's own recipe, or train into another run_dir."
        )


def _assign(variables: dict[str, keras.Variable], saved: dict[str, np.ndarray]) -> None:
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


def _values(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in _variables(model).items()} | _scales(model)


def _scales(model: keras.Model) -> dict[str, np.ndarray]:
    return {f"lora/{path}": np.array(scale) for path, scale in adapter_scales(model).items()}


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    variables = _model_variables(model)
    weights = {id(variable) for variable in variables.values()}
    # Keras names dropout states by a counter of the process; their order is the model's own.
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    variables |= {f"seed/{index}": variable for index, variable in enumerate(seeds)}
    # "adam/MODEL_encoder_kernel_momentum" -> "optimizer/adam/encoder_kernel_momentum"
    averages = _averages(model)
    states = [variable for variable in model.optimizer.variables if id(variable) not in set(map(id, averages))]
    paths = (variable.path.replace(f"/{model.name}_", "/", 1) for variable in states)
    variables |= _by_path("optimizer", paths, states)
    names = {id(variable): name for name, variable in variables.items()}
    for trained, average in zip(model.trainable_variables, averages, strict=bool(averages)):
        name = names[id(trained)]
        variables |= {name: average, name.replace("model/", "trained/", 1): trained}
    return variables


def _averages(model: keras.Model) -> list[keras.Variable]:
    """The moving averages of the trainable variables, if there are any; Keras has no public name for them."""
    # Keras wraps the optimizer of a model in float16 into one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer._model_variables_moving_average if optimizer.use_ema else []


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
