"""The checkpoints of a run: to save one, to find one, to put one into a model, and which of them are kept.

What lies in a folder is in `tfzoo.training.checkpoint_files`; what it holds of a model, in
`tfzoo.training.named_variables`. Nothing is assigned to a model before everything fits.

A run that begins with weights from elsewhere has a checkpoint of step 0, with model/PATH alone. A run that was asked to
end between two checkpoints leaves one without a record, which also holds progress/NAME, what was measured since the
last record; the next checkpoint replaces it.

Adapted attention (lora/PATH) is given back by `restore` as it was trained; every other reader takes the kernel that it
makes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from tfzoo.errors import CheckpointError
from tfzoo.training import named_variables
from tfzoo.training.checkpoint_files import Checkpoint, folder_of, read, read_tensors, root_of, write
from tfzoo.training.fine_tuning import merge, without_effect
from tfzoo.training.measures import Record, best_record, best_records


def steps(run_dir: str | Path) -> list[int]:
    """Returns the steps that have a checkpoint, ascending; half-written ones do not count."""
    matches = (re.fullmatch(r"step-(\d{8,})", path.name) for path in root_of(run_dir).glob("step-*"))
    return sorted(int(match[1]) for match in matches if match)


def newest(run_dir: str | Path) -> Checkpoint:
    """Returns the checkpoint of the highest step.

    Raises:
        CheckpointError: the run has no checkpoint, or its state.json is missing or damaged.
    """
    saved = steps(run_dir)
    if not saved:
        raise CheckpointError(f"{root_of(run_dir)} holds no checkpoint; train the run first.")
    return read(folder_of(run_dir, saved[-1]))


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
    return read(folder_of(run_dir, int(best_record(history, monitor)["step"]))) if history else last


def at(run_dir: str | Path, step: int) -> Checkpoint:
    """Returns the checkpoint of a step.

    Raises:
        CheckpointError: its state.json is missing or damaged.
    """
    return read(folder_of(run_dir, step))


def save(model: keras.Model, run_dir: str | Path, history: list[Record]) -> Checkpoint:
    """Writes the state of a built and compiled model as the checkpoint of the last record's step.

    Raises:
        CheckpointError: the step has a checkpoint already, or two variables have one path.
    """
    step = int(history[-1]["step"])
    tensors = named_variables.values(model)
    return write(run_dir, tensors, step=step, history=history, num_devices=_num_devices(model))


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
    tensors = named_variables.values(model) | {f"progress/{name}": one for name, one in progress.items()}
    return write(run_dir, tensors, step=step, history=history, num_devices=_num_devices(model))


def begin(run_dir: str | Path, weights: Mapping[str, np.ndarray]) -> Checkpoint:
    """Writes weights as the checkpoint of step 0, from which training goes on with a fresh optimizer.

    Args:
        run_dir: folder of the run.
        weights: variable path below the model's name -> value.

    Raises:
        CheckpointError: there is a checkpoint of step 0 already.
    """
    tensors = {f"model/{path}": value for path, value in weights.items()}
    return write(run_dir, tensors, step=0, history=[{"step": 0}])


def _num_devices(model: keras.Model) -> int:
    return model.distribute_strategy.num_replicas_in_sync


def restore(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Puts weights, optimizer and dropout states into a built model that is compiled with a built optimizer.

    At step 0 there are weights alone; the others stay as they are.

    Raises:
        CheckpointError: state.safetensors is missing, damaged, or of another model or optimizer.
    """
    if not checkpoint.step:
        load_weights(model, checkpoint)
        return
    saved = read_tensors(checkpoint, ("model/", "trained/", "optimizer/", "seed/", "lora/"))
    scales = {name: saved.pop(name) for name in sorted(saved) if name.startswith("lora/")}
    variables = named_variables.training_state(model)
    named_variables.check_fit(variables, saved, checkpoint.tensors_path)
    if scales != named_variables.adapters(model):
        raise CheckpointError(
            f"{checkpoint.tensors_path} does not fit the model: its adapters count otherwise. Set "
            "`lora_rank` and `lora_alpha` as the run had them, or train into another run_dir."
        )
    named_variables.assign(variables, saved)


def load_weights(model: keras.Model, *averaged: Checkpoint) -> None:
    """Puts the weights alone into a built model, to predict with or to export.

    Args:
        model: the model.
        *averaged: one checkpoint, or several of which the mean is taken (Vaswani et al., 2017, section 6.1).

    Raises:
        CheckpointError: a state.safetensors is missing, damaged, or of another model.
    """
    variables = named_variables.weights(model)
    weights = {f"model/{path}": value for path, value in read_weights(*averaged).items()}
    for name, variable in variables.items():
        nothing = without_effect(name, variable)
        if nothing is not None:
            weights[name] = nothing
    named_variables.check_fit(variables, weights, averaged[-1].tensors_path)
    named_variables.assign(variables, weights)


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
    return {name.removeprefix("progress/"): value for name, value in read_tensors(checkpoint, ("progress/",)).items()}


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
        folder = folder_of(run_dir, step)
        # Renamed first: a run killed while deleting must not leave something that looks whole.
        shutil.rmtree(folder.rename(folder.with_name(f".tmp-{folder.name}")))


def clean(run_dir: str | Path) -> None:
    """Deletes what a killed run left half-written or half-deleted."""
    for path in root_of(run_dir).glob(".tmp-step-*"):
        shutil.rmtree(path)


def _root(run_dir: str | Path) -> Path:
    return Path(run_dir) / "checkpoints"


def _read_merged(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    tensors = read_tensors(checkpoint, ("model/", "lora/"))
    named: dict[str, dict[str, np.ndarray]] = {"model": {}, "lora": {}}
    for name, value in tensors.items():
        prefix, _, path = name.partition("/")
        named[prefix][path] = value
    return merge(named["model"], named["lora"])
