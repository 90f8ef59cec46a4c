"""The files of one checkpoint, which other tools open too.

    RUN_DIR/checkpoints/step-00000100/
        state.safetensors   the tensors, each under its name
        state.json          step, history (one record per checkpoint so far), num_devices, checksums

A checkpoint is written aside and renamed, so that a killed run leaves a whole one or none. Both files are
checksummed. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from tfzoo.errors import CheckpointError
from tfzoo.training.measures import Record

_TENSORS, _FIELDS = "state.safetensors", "state.json"


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

    @property
    def tensors_path(self) -> Path:
        """The file of its tensors."""
        return self.folder / _TENSORS


def root_of(run_dir: str | Path) -> Path:
    """Returns the folder of all checkpoints of a run."""
    return Path(run_dir) / "checkpoints"


def folder_of(run_dir: str | Path, step: int) -> Path:
    """Returns where the checkpoint of a step is or will be."""
    return root_of(run_dir) / f"step-{step:08d}"


def write(
    run_dir: str | Path,
    tensors: Mapping[str, np.ndarray],
    *,
    step: int,
    history: list[Record],
    num_devices: int = 1,
) -> Checkpoint:
    """Writes a checkpoint that is not there yet.

    Args:
        run_dir: folder of the run.
        tensors: name -> value.
        step: see `Checkpoint`, as the others.
        history: one record per checkpoint of the run so far.
        num_devices: devices that trained it.

    Raises:
        CheckpointError: the step has a checkpoint already.
    """
    folder = folder_of(run_dir, step)
    if folder.exists():
        raise CheckpointError(f"{folder} exists already; delete it or train into another run_dir.")
    aside = folder.with_name(f".tmp-{folder.name}")
    aside.mkdir(parents=True)
    tensors = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    save_file(tensors, aside / _TENSORS)
    sha256 = _file_sha256(aside / _TENSORS)
    fields = {"step": step, "history": history, "sha256": sha256, "num_devices": num_devices}
    text = json.dumps({**fields, "state_sha256": _fields_sha256(fields)}, indent=1)
    (aside / _FIELDS).write_text(text, encoding="utf-8")
    shutil.copymode(aside / _FIELDS, aside / _TENSORS)  # safetensors makes it private
    for path in aside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    aside.rename(folder)
    return Checkpoint(folder=folder, step=step, history=list(history), sha256=sha256, num_devices=num_devices)


def read(folder: Path) -> Checkpoint:
    """Returns a checkpoint without its tensors.

    Raises:
        CheckpointError: its state.json is missing or damaged.
    """
    path = folder / _FIELDS
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


def read_tensors(checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the tensors whose names begin with one of the prefixes.

    Raises:
        CheckpointError: state.safetensors is missing or damaged.
    """
    path = checkpoint.tensors_path
    if not path.exists():
        raise CheckpointError(f"{path} is missing. {_way_out(checkpoint.folder)}")
    if _file_sha256(path) != checkpoint.sha256:
        raise CheckpointError(f"{path} is damaged: its checksum differs. {_way_out(checkpoint.folder)}")
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fields_sha256(fields: dict) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _way_out(folder: Path) -> str:
    return f"Delete {folder} to go on from the checkpoint before it."
