"""Files and folders that appear whole or not at all, and folders that work goes on in."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfzoo.errors import UsageError


@contextlib.contextmanager
def new_folder(path: Path, argument: str) -> Iterator[Path]:
    """Gives a folder to write into, which takes its place at `path` when all is written, and is deleted otherwise.

    Args:
        path: an absent or empty folder.
        argument: what the caller calls `path`.

    Raises:
        UsageError: `path` is not empty, or no folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"`{argument}` {path} exists and is not empty; name another folder or remove it.")
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield aside
        os.chmod(aside, 0o755)  # mkdtemp's is private, and a server runs as another user
        os.rename(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def aside(path: Path) -> Path:
    """Returns where to write what then takes the place of `path`: a hidden `.part` beside it, at each call another one.

    Workers on several machines may write one file at the same time, even under the same process id.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def write(path: Path, text: str) -> None:
    """Writes a file of UTF-8, whole or not at all."""
    part = aside(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def claim(directory: Path, note: str, made_with: Mapping[str, Any]) -> None:
    """Makes a folder and notes what its files are made with, or checks that the work in it goes on with the same.

    Args:
        directory: an absent or empty folder, or one that was claimed before.
        note: name of the file that says with what.
        made_with: what can be written as JSON, by name.

    Raises:
        UsageError: the folder holds something else, was claimed with something else, or its note is damaged.
    """
    path = directory / note
    if path.exists():
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name, value in json.loads(json.dumps(made_with)).items() if noted[name] != value]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged; name another output_dir, or remove {directory}.") from error
        if changed:
            raise UsageError(
                f"{directory} was begun with another `{changed[0]}`; go on as before, or name another output_dir."
            )
        return
    # A call that was killed here may have left no more than a part of its note.
    if directory.exists() and not (
        directory.is_dir() and all(one.name.startswith(f".{note}.") for one in directory.iterdir())
    ):
        raise UsageError(f"`output_dir` {directory} exists and is not empty; name another folder.")
    directory.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(made_with))
