"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
