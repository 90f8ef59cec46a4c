"""Words per second of one model in Keras, SavedModel and ONNX Runtime: greedy and beam search, batches of 1 and 64.

    tfzoo quickstart
    python -m benchmarks.decode

The three run in turns in one process, so that what else the machine does falls on all alike. Each number is the median
over the repetitions of a pass over the same texts, tokenizing and detokenizing included. A first pass, which is not
counted, traces graphs and loads sessions. All use their default number of threads. Words are those of the sources.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import recording
from tfzoo import runs
from tfzoo.data import read
from tfzoo.decoding import DecodingConfig
from tfzoo.errors import UsageError
from tfzoo.runtime.artifact import Artifact
from tfzoo.runtime.predictor import SearchBackend, row_options

QUICKSTART = Path("runs/quickstart")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a line for each number and writes them all."""
    options = _parser().parse_args(arguments)
    run = runs.Run(options.run_dir)
    decoding = run.recipe.decoding
    if not isinstance(decoding, DecodingConfig):
        raise UsageError(f"`run_dir` must be that of a model that generates; {options.run_dir} is for {run.task!r}.")
    backends: dict[str, Any] = {
        "keras": run.backend,
        "saved_model": Artifact(options.artifact, "saved_model").backend,
        "onnx": Artifact(options.artifact, "onnx").backend,
    }
    sources = (record[0] for record in read(options.data))
    texts = list(itertools.islice(dict.fromkeys(sources), options.num_texts))
    results = []
    for num_beams, batch_size in itertools.product(options.num_beams, options.batch_sizes):
        config = dataclasses.replace(decoding, num_beams=num_beams, num_return_sequences=1, temperature=0.0)
        for name, seconds in measure(backends, texts, config, batch_size, options.repetitions).items():
            median = statistics.median(seconds)
            words_per_second = sum(len(text.split()) for text in texts) / median
            print(f"beams {num_beams}, batch {batch_size:>2}, {name:<11} {words_per_second:8.1f} words/s")
            results.append(
                {
                    "runtime": name,
                    "num_beams": num_beams,
                    "batch_size": batch_size,
                    "words_per_second": words_per_second,
                    "median_seconds": median,
                    "seconds": seconds,
                }
            )
    recording.write(options.output, "benchmarks.decode", arguments, results)


def measure(
    backends: dict[str, SearchBackend], texts: Sequence[str], config: DecodingConfig, batch_size: int, repetitions: int
) -> dict[str, list[float]]:
    """Times each backend on the same texts, in turns.

    Args:
        backends: by name.
        texts: the sources, decoded in their order.
        config: how to search.
        batch_size: texts that are decoded together.
        repetitions: timed passes over the texts.

    Returns: name -> seconds of each pass.

    Raises:
        UsageError: two backends answer differently: they do not hold the same model.
    """
    batches = [texts[first : first + batch_size] for first in range(0, len(texts), batch_size)]

    def decode(backend: SearchBackend) -> list[str]:
        found = [backend.generate(batch, row_options(config, len(batch))) for batch in batches]
        return [row[0] for hypotheses in found for row in hypotheses.outputs]

    answers = {name: decode(backend) for name, backend in backends.items()}  # the warm-up
    reference, expected = next(iter(answers.items()))
    for name, outputs in answers.items():
        for text, output, other in zip(texts, outputs, expected, strict=True):
            if output != other:
                raise UsageError(
                    f"`artifact` must be exported from `run_dir`: for {text!r} {name} answers {output!r}, "
                    f"{reference} {other!r}."
                )
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(repetitions):
        for name, backend in backends.items():
            start = time.perf_counter()
            decode(backend)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=(__doc__ or "").splitlines()[0])
    option: Any = parser.add_argument
    option("--run_dir", type=Path, default=QUICKSTART, help="the run, for Keras")
    option("--artifact", type=Path, default=QUICKSTART / "artifact" / "pronounce", help="what was exported from it")
    option("--data", default="sample:cmudict:test", help="where the sources come from")
    option("--num_texts", type=int, default=256, help="distinct sources")
    option("--num_beams", type=int, nargs="+", default=[1, 4], help="1 = greedy")
    option("--batch_sizes", type=int, nargs="+", default=[1, 64], help="texts that are decoded together")
    option("--repetitions", type=int, default=5, help="timed passes over the texts")
    option("--output", type=Path, default=Path("benchmarks/results/decode.json"), help="the file of results")
    return parser


if __name__ == "__main__":
    main()
