"""How well classifiers do that start from a checkpoint, beside the same ones from random weights.

    python -m benchmarks.finetune --train=tsv:train.tsv --data=tsv:dev.tsv --start=minilm_l6 --start=bert_mini

A start is a recipe of the zoo with the checkpoint that it names, or RECIPE=CHECKPOINT for another one (a run, a folder
of Hugging Face's), or RECIPE=none for random weights. Each is trained for whole epochs, once with each seed, and scored
after its last step: nothing is chosen by the data that it is scored on.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tfzoo
from benchmarks import recording
from tfzoo import runs
from tfzoo.data.sources import read
from tfzoo.recipes.recipe import Recipe, override

SCORES = ("accuracy", "f1_macro")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, scores, prints a line for each run and one for each start, and writes them all."""
    options = _parser().parse_args(arguments)
    num_examples = sum(1 for spec in options.train for _ in read(spec, options.columns))
    trained: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for start in options.start:
            rows = []
            for seed in options.seeds:
                recipe = plan(start, seed, options.epochs, num_examples, options.set)
                run_dir = Path(options.run_dir or scratch, f"{start.replace('/', '_')}-{seed}")
                rows.append({"start": start, "seed": seed, **train(recipe, run_dir, options.train, options.data)})
                print(_line(rows[-1]), flush=True)
            trained += rows
            summary.append({"start": start, "num_seeds": len(rows), **_spread(rows)})
    for row in summary:
        print(_line(row))
    results = {
        "train": options.train,
        "data": options.data,
        "num_examples": num_examples,
        "epochs": options.epochs,
        "runs": trained,
        "summary": summary,
    }
    recording.write(options.output, "benchmarks.finetune", arguments, results)


def plan(start: str, seed: int, epochs: int, num_examples: int, overrides: Sequence[str]) -> Recipe:
    """Returns the recipe of one run.

    Args:
        start: RECIPE, RECIPE=CHECKPOINT or RECIPE=none.
        seed: of weights, dropout and the order of the examples.
        epochs: times that the training data is read.
        num_examples: of the training data.
        overrides: further `section.field=value`, which win.
    """
    name, _, checkpoint = start.partition("=")
    recipe = tfzoo.recipe(name, task="text_classification")
    num_steps = epochs * math.ceil(num_examples / recipe.data.batch_size)
    settings = [
        f"training.num_steps={num_steps}",
        f"training.checkpoint_steps={num_steps}",
        f"training.warmup_steps={num_steps // 10}",
        f"training.seed={seed}",
        f"data.seed={seed}",
    ]
    if checkpoint:
        settings.append(f"training.initial_checkpoint={checkpoint}")
    return override(recipe, [*settings, *overrides])


def train(recipe: Recipe, run_dir: Path, specs: Sequence[str], data: Sequence[str]) -> dict[str, Any]:
    """Trains one run without validation, and scores its last step."""
    run = runs.train(recipe, run_dir, data=specs, verbose=0)
    scores = runs.evaluate(run_dir, data)
    seconds = sum(record.get("seconds", 0.0) for record in run.checkpoint.history)
    model = dataclasses.asdict(run.recipe.model)
    sizes = {name: model[name] for name in ("hidden_dim", "num_layers", "vocabulary_size")}
    training = dataclasses.asdict(run.recipe.training)
    kept = {name: training[name] for name in ("num_steps", "learning_rate", "weight_decay", "schedule")}
    return {
        "recipe": recipe.name,
        "num_parameters": run.model.count_params(),
        **sizes,
        **kept,
        "batch_size": run.recipe.data.batch_size,
        "training_seconds": seconds,
        **scores,
    }


def _spread(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of each score its mean over the seeds, and its standard deviation where there are two or more."""
    spread = {}
    for name in SCORES:
        values = [row[name] for row in rows]
        spread[name] = statistics.fmean(values)
        if len(values) > 1:
            spread[f"{name}_deviation"] = statistics.stdev(values)
    return spread


def _line(row: dict[str, Any]) -> str:
    scores = "  ".join(f"{name} {row[name]:.4f}" for name in SCORES)
    what = f"seed {row['seed']}, {row['training_seconds']:.0f} s" if "seed" in row else f"mean of {row['num_seeds']}"
    return f"{scores}  {row['start']} ({what})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune", description=(__doc__ or "").splitlines()[0])
    option: Any = parser.add_argument
    option("--train", action="append", required=True, help="a data specification to train on; may be repeated")
    option("--data", action="append", required=True, help="one to score on; may be repeated")
    option("--start", action="append", required=True, help="RECIPE, RECIPE=CHECKPOINT or RECIPE=none; may be repeated")
    option("--seeds", type=int, nargs="+", default=[0], help="one run each")
    option("--epochs", type=int, default=3, help="times that the training data is read")
    option("--columns", type=int, default=2, help="of the data: 2 = text and label, 3 = two texts and label")
    option("--set", action="append", default=[], help="section.field=value of every recipe; may be repeated")
    option("--run_dir", help="a folder to keep the runs in; left out, they are deleted")
    option("--output", type=Path, required=True, help="the file of results")
    return parser


if __name__ == "__main__":
    main()
