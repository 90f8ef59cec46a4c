"""Tokens per second of a recipe's training step, and its share of what the machine can multiply.

    python -m benchmarks.train --recipe=transformer_small

Batches are random tokens without padding, of the recipe's size; model, loss and optimizer are those of `tfzoo train`,
driven by Keras' `fit`. Recipes are those for text to text, whose target's tokens are counted, and for language models.
A first epoch, which is not counted, traces the graph. The peak is the best rate of one large
matrix product in the recipe's precision; what counts as work is said in `tfzoo.training.utilisation`. The memory is the
most that the process has had.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfzoo
from benchmarks import recording
from tfzoo import runs
from tfzoo.errors import UsageError
from tfzoo.recipes import Recipe, override
from tfzoo.training.losses import cross_entropy
from tfzoo.training.optimizers import build_optimizer
from tfzoo.training.recomputation import recomputed
from tfzoo.training.utilisation import forward_flops, memory, product_seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes the numbers."""
    options = _parser().parse_args(arguments)
    recipe = override(tfzoo.recipe(options.recipe), options.set)
    if recipe.task not in ("seq2seq", "causal_lm"):
        raise UsageError(f"`--recipe` must be for 'seq2seq' or 'causal_lm'; {options.recipe!r} is for {recipe.task!r}.")
    length = min(options.length, recipe.model.max_sequence_length)
    batch_size = recipe.data.batch_size or max(1, recipe.data.batch_tokens // length)
    seconds = step_seconds(recipe, batch_size, length, options.steps, options.repetitions)
    seconds_of_product = product_seconds(
        options.matrix_size, recipe.training.precision.removeprefix("mixed_"), options.repetitions
    )
    peak = 2 * options.matrix_size**3 / seconds_of_product
    work = 3 * forward_flops(recipe.model, batch_size, length, source_length=length)
    median = statistics.median(seconds)
    results = {
        "recipe": options.recipe,
        "overrides": options.set,
        "batch_size": batch_size,
        "length": length,
        "tokens_per_second": batch_size * length / median,
        "flops_per_step": work,
        "flops_per_second": work / median,
        "peak_flops_per_second": peak,
        "share_of_peak": work / median / peak,
        **memory(),
        "median_seconds": median,
        "seconds": seconds,
    }
    print(
        f"{options.recipe}, {batch_size} x {length}: {results['tokens_per_second']:.0f} tokens/s, "
        f"{work / median / 1e9:.1f} of {peak / 1e9:.1f} GFLOP/s ({results['share_of_peak']:.0%})"
    )
    recording.write(options.output, "benchmarks.train", arguments, results)


def step_seconds(recipe: Recipe, batch_size: int, length: int, steps: int, repetitions: int) -> list[float]:
    """Times training steps on one random batch.

    Args:
        recipe: names model, loss and optimizer.
        batch_size: B.
        length: S and T, in tokens.
        steps: in each repetition.
        repetitions: timed epochs.

    Returns: seconds of a step, for each repetition.
    """
    keras.utils.set_random_seed(recipe.training.seed)
    model = runs.build_model(recipe, for_training=True)
    model.supports_jit = recipe.training.jit_compile
    model.compile(
        optimizer=build_optimizer(recipe.training),
        loss=cross_entropy(recipe.training.label_smoothing),
        jit_compile=recipe.training.jit_compile,
    )
    timer = _Timer()
    dataset = tf.data.Dataset.from_tensors(_batch(recipe, batch_size, length)).cache().repeat()
    with recomputed(model) if recipe.training.recompute else contextlib.nullcontext():
        model.fit(dataset, epochs=repetitions + 1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[timer])
    return [seconds / steps for seconds in timer.seconds[1:]]


class _Timer(keras.callbacks.Callback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def _batch(recipe: Recipe, batch_size: int, length: int) -> Any:
    config: Any = recipe.model
    generator = np.random.default_rng(0)

    def words(vocabulary_size: int) -> np.ndarray:
        # Of pairs special tokens come first; with them drawn, padding would save no work, but change the count.
        first = 0 if recipe.task == "causal_lm" else config.end_id + 1
        return generator.integers(first, vocabulary_size, (batch_size, length), np.int32)

    if recipe.task == "causal_lm":
        inputs = {"token_ids": words(config.vocabulary_size), "padding_mask": np.ones((batch_size, length), np.int32)}
    else:
        inputs = {
            "encoder_token_ids": words(config.source_vocabulary_size or config.vocabulary_size),
            "decoder_token_ids": words(config.vocabulary_size),
        }
    return inputs, words(config.vocabulary_size), np.ones((batch_size, length), np.float32)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=(__doc__ or "").splitlines()[0])
    option: Any = parser.add_argument
    option("--recipe", default="transformer_small", help="a name out of `tfzoo list`, or a recipe's JSON file")
    option("--set", action="append", default=[], help="a recipe field, section.field=value")
    option("--length", type=int, default=32, help="tokens of each text")
    option("--steps", type=int, default=10, help="training steps in each repetition")
    option("--repetitions", type=int, default=5, help="timed epochs, and matrix products")
    option("--matrix_size", type=int, default=4096, help="rows and columns of the matrix product")
    option("--output", type=Path, default=Path("benchmarks/results/train.json"), help="the file of results")
    return parser


if __name__ == "__main__":
    main()
