"""How well do runs of text-to-text models answer held-out texts, after how much training, and how fast?

    python -m benchmarks.text_to_text --run=runs/gru_small --run=runs/small_g2p --run=runs/g2p_en:0123456789 \
        --data=sample:cmudict:test --output=benchmarks/results/pronunciation.json

Every run answers the same sources, by its recipe's search, and is scored by its recipe's metrics. Characters behind a
run's colon are taken out of its answers first: the digits of stress, where the references have none. The speed is that
of one pass over all texts, tokenizing included, after a first pass over some of them, which traces the graphs; words
are those of the sources. With --curve the kept checkpoints are scored too, each with the training time up to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import recording
from tfzoo import runs
from tfzoo.data.corpus import read_pairs
from tfzoo.errors import UsageError
from tfzoo.evaluation import score
from tfzoo.training import checkpoints

NUM_TO_TRACE = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Scores, prints a line for each run and checkpoint, and writes them all."""
    options = _parser().parse_args(arguments)
    references = read_references(options.data)
    results = []
    for named in options.run:
        directory, _, dropped = named.partition(":")
        run = runs.Run(directory)
        if run.task != "seq2seq":
            raise UsageError(f"`run` must be that of a text-to-text model; {directory} is for {run.task!r}.")
        row = describe(run) | measure(run, references, dropped)
        print(_line(row), flush=True)
        if options.curve:
            row["curve"] = curve(run, references, dropped)
        results.append(row)
    data = {"data": options.data, "num_sources": len(references), "runs": results}
    recording.write(options.output, "benchmarks.text_to_text", arguments, data)


def read_references(specs: Sequence[str]) -> dict[str, list[str]]:
    """Returns each distinct source with all of its targets."""
    references: dict[str, list[str]] = {}
    for spec in specs:
        for source, target in read_pairs(spec):
            references.setdefault(source, []).append(target)
    return references


def describe(run: runs.Run) -> dict[str, Any]:
    """Returns what the run is, and how long it was trained."""
    return {
        "name": run.recipe.name,
        "num_parameters": run.model.count_params(),
        "recipe": dataclasses.asdict(run.recipe),
        "step": run.checkpoint.step,
        "averaged_checkpoints": len(run.checkpoints),
        "training_minutes": training_minutes(run.checkpoint.history, run.checkpoint.step),
    }


def training_minutes(history: Sequence[dict[str, Any]], step: int) -> float:
    """Returns how long the steps up to one took, without validation; 0 for weights from elsewhere, which are step 0."""
    return sum(record["seconds"] for record in history if 0 < record["step"] <= step) / 60


def measure(run: runs.Run, references: dict[str, list[str]], dropped: str, **options: Any) -> dict[str, Any]:
    """Returns the scores and the speed of a run.

    Args:
        run: what answers.
        references: source -> targets.
        dropped: characters that are taken out of the answers.
        **options: decoding options that differ from the recipe's.
    """
    sources = sorted(references, key=len)  # texts of similar length are decoded together
    for _ in run.generate(sources[:: max(1, len(sources) // NUM_TO_TRACE)], **options):
        pass
    begin = time.perf_counter()
    outputs = [found[0].output for found in run.generate(sources, **options)]
    seconds = time.perf_counter() - begin
    outputs = [output.translate({ord(letter): None for letter in dropped}) for output in outputs]
    evaluation = run.recipe.evaluation
    return {
        **options,
        **score(
            evaluation.metrics, outputs, [references[source] for source in sources], tokenizer=evaluation.tokenizer
        ),
        "words_per_second": sum(len(source.split()) for source in sources) / seconds,
    }


def curve(run: runs.Run, references: dict[str, list[str]], dropped: str) -> list[dict[str, Any]]:
    """Returns the greedy scores of each kept checkpoint; the run's weights end as those of the last one."""
    rows = []
    for record in run.checkpoint.history:
        step = int(record["step"])
        if step not in checkpoints.steps(run.directory):
            continue
        checkpoints.load_weights(run.model, checkpoints.at(run.directory, step))
        found = measure(run, references, dropped, num_beams=1)
        minutes = training_minutes(run.checkpoint.history, step)
        loss = record.get("val_nats_per_token")
        rows.append({"step": step, "training_minutes": minutes, "val_nats_per_token": loss, **found})
        print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    names = ("bleu", "chrf", "token_error_rate", "word_error_rate", "words_per_second")
    scores = "  ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
    return f"{row.get('name', 'greedy')} step {row['step']}, {row['training_minutes']:.0f} min: {scores}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.text_to_text", description=(__doc__ or "").splitlines()[0]
    )
    option: Any = parser.add_argument
    option("--run", action="append", required=True, help="RUN_DIR or RUN_DIR:CHARACTERS; may be repeated")
    option("--data", action="append", required=True, help="a data specification to score on; may be repeated")
    option("--curve", action="store_true", help="score every kept checkpoint too, by greedy search")
    option("--output", type=Path, required=True, help="the file of results")
    return parser


if __name__ == "__main__":
    main()
