"""A run's artifact: written when asked for, or kept at the run's weights while they are trained."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from tfzoo.errors import ArtifactMismatch, UsageError
from tfzoo.recipes.recipe import Recipe
from tfzoo.run_folder import RECIPE, Run, choose_checkpoints, read_examples, read_recipe
from tfzoo.runtime.artifact import MANIFEST


def export_run(
    run_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "onnx"),
    *,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Exports a run's weights and proves them; see `tfzoo.export`.

    Args:
        run_dir: the run.
        output_dir: the artifact's folder; must be absent or empty.
        formats: "saved_model" and "onnx", or one of them; "onnx_text" besides "onnx" for an encoder of one text.
        metrics: scores for the model card besides those of the checkpoint.

    Returns: the artifact's manifest.

    Raises:
        UsageError: `run_dir` is not a run, an unknown format, or `output_dir` is not empty.
        CheckpointError: the run is damaged, or has no checkpoint yet.
        ArtifactMismatch: a format answers otherwise than the model; nothing is left behind.
    """
    from tfzoo.export.exporter import export

    run = Run(run_dir)
    return export(
        run.model,
        run.tokenizer,
        output_dir,
        formats,
        decoding=run.recipe.decoding,
        recipe=dataclasses.asdict(run.recipe),
        metrics={**run.metrics, **(metrics or {})},
        texts=read_examples(Path(run_dir)),
    )


def check_export_dir(export_dir: Path, recipe: Recipe) -> None:
    """Raises UsageError unless `export_dir` is absent, empty, or holds an artifact of a run of this recipe."""
    if not export_dir.exists() or (export_dir.is_dir() and not any(export_dir.iterdir())):
        return
    theirs = _manifest(export_dir).get("recipe") or {}
    # By what a run keeps all its life; the sizes of the vocabulary are those of the trained tokenizer.
    if any(theirs.get(name) != getattr(recipe, name) for name in ("name", "family")) or (
        theirs["data"]["train"] != list(recipe.data.train)
    ):
        raise UsageError(
            f"`export_dir` {export_dir} is not an artifact of the recipe {recipe.name!r} on this data; "
            "name another folder or remove it."
        )


def export_best(run_dir: Path, export_dir: Path, *, is_final: bool = False) -> None:
    """Exports and proves a run's weights, unless `export_dir` holds their artifact, and puts it there.

    Args:
        run_dir: the run; as long as it has fewer checkpoints than it averages, nothing happens.
        export_dir: the artifact's folder, as `check_export_dir` lets it pass.
        is_final: False = weights whose artifact is not equal to them are logged, and the artifact stays as it was.

    Raises:
        ArtifactMismatch: the artifact is not equal to the model, and `is_final`.
        CheckpointError: the run is damaged.
    """
    from tfzoo.training import checkpoints

    recipe = read_recipe(run_dir / RECIPE)
    if len(checkpoints.newest(run_dir).history) < recipe.training.average_checkpoints:
        return
    step = choose_checkpoints(recipe, run_dir)[-1].step
    if _manifest(export_dir).get("metrics", {}).get("step") == step:
        return
    export_dir = export_dir.resolve()
    export_dir.parent.mkdir(parents=True, exist_ok=True)
    # Its own name, which is the model's on a server, in a hidden folder.
    aside = Path(tempfile.mkdtemp(prefix=f".{export_dir.name}-", dir=export_dir.parent))
    try:
        export_run(run_dir, aside / export_dir.name)
        if export_dir.exists():
            os.rename(export_dir, aside / "before")
        os.rename(aside / export_dir.name, export_dir)
        logging.info("%s holds the weights of step %d, proved.", export_dir, step)
    except ArtifactMismatch as error:
        if is_final:
            raise
        logging.error("step %d is not exported: %s Training goes on.", step, error)
    finally:
        shutil.rmtree(aside)


def _manifest(directory: Path) -> dict[str, Any]:
    """An artifact's manifest, or nothing where there is none that can be read."""
    try:
        return json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
