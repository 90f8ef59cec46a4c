"""Tokens per second and memory of one training run on one device, on two, and in two processes.

    python -m benchmarks.scale

The model, the batches and the number of updates are the same throughout. Each device computes an operation with one
thread, or one device with two; TensorFlow runs operations side by side besides. Numbers are those of the run's own
records: the first, which holds the tracing of the graph, is left out. Processor time of the same records is given
besides, which is what the work costs on a machine that others use too; of two processes it is twice that of the first.
Memory is the largest of each process, and counts TensorFlow itself. Several machines are not measured: what their
network costs, nobody here knows.

Besides, two updates on long rows are made with and without `recompute`, to see the memory that it saves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Name -> strategy, processes, logical CPUs and threads of each process.
SETTINGS = {
    "one device, one thread": ("single", 1, 1, 1),
    "one device, two threads": ("single", 1, 1, 2),
    "two devices in one process": ("mirrored", 1, 2, 1),
    "two processes": ("multi_worker", 2, 1, 1),
}
VOCABULARY_SIZE = 4000
LONG_ROWS = ("--batch_size=4", "--length=1024", "--steps=1", "--records=1")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes the numbers."""
    options = _parser().parse_args(arguments)
    if options.setting:
        print(json.dumps(_measure(options)))
        return
    from benchmarks import recording

    given = [
        f"--{name}={getattr(options, name)}" for name in ("batch_size", "length", "hidden_dim", "steps", "records")
    ]
    results: dict[str, Any] = {
        "batch_size": options.batch_size,
        "length": options.length,
        "hidden_dim": options.hidden_dim,
        "load_before": os.getloadavg()[0],
        "settings": {name: _run(name, given) for name in SETTINGS},
        "long_rows": {
            name: _run("one device, two threads", [*given, *LONG_ROWS, *more])
            for name, more in (("kept", []), ("recomputed", ["--recompute"]))
        },
        "load_after": os.getloadavg()[0],
    }
    for name, found in (results["settings"] | results["long_rows"]).items():
        print(
            f"{name}: {found['tokens_per_second']:.0f} tokens/s, "
            f"{found['processor_seconds_per_1000_tokens']:.2f} processor seconds per 1,000 tokens, "
            f"{found['peak_megabytes']} MB"
        )
    recording.write(options.output, "benchmarks.scale", arguments, results)


def _run(name: str, given: Sequence[str]) -> dict[str, Any]:
    """Runs a setting's processes: the rate of the first one's records, the memory of each."""
    _, num_processes, _, num_threads = SETTINGS[name]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_processes)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    environ = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "OMP_NUM_THREADS": str(num_threads),
        "TF_NUM_INTRAOP_THREADS": str(num_threads),
        "TF_NUM_INTEROP_THREADS": "2",
    }
    with tempfile.TemporaryDirectory() as run_dir:
        processes = []
        for index in range(num_processes):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.scale", f"--setting={name}", f"--run_dir={run_dir}", *given],
                    env=environ | ({"TF_CONFIG": json.dumps(config)} if num_processes > 1 else {}),
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        measured = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return {
        "tokens_per_second": max(measured[0]["tokens_per_second"]),
        "of_each_record": measured[0]["tokens_per_second"],
        "processor_seconds_per_1000_tokens": num_processes * measured[0]["processor_seconds_per_1000_tokens"],
        "peak_megabytes": [one["peak_megabytes"] for one in measured],
        "final_loss": measured[0]["loss"],
    }


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """What one process of a setting finds."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfzoo
    from tfzoo.training import TrainingConfig, fit

    name, _, num_cpus, _ = SETTINGS[options.setting]
    if num_cpus > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_cpus)
    strategy = tfzoo.training.strategy(name)
    config = tfzoo.models.GPT2Config(
        vocabulary_size=VOCABULARY_SIZE,
        hidden_dim=options.hidden_dim,
        intermediate_dim=4 * options.hidden_dim,
        num_layers=4,
        num_heads=4,
        max_sequence_length=options.length,
        pad_id=0,
        start_id=0,
        end_id=0,
    )
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tfzoo.models.GPT2(config)
    shape = (options.batch_size, options.length)
    tokens = np.random.default_rng(0).integers(1, VOCABULARY_SIZE, shape, np.int32)
    inputs = {"token_ids": tokens, "padding_mask": np.ones(shape, np.int32)}
    dataset = tf.data.Dataset.from_tensors((inputs, np.roll(tokens, -1, axis=1), np.ones(shape, np.float32))).repeat()
    training = TrainingConfig(
        num_steps=options.steps * (options.records + 1),
        checkpoint_steps=options.steps,
        learning_rate=1e-3,
        warmup_steps=10,
        label_smoothing=0.0,
        recompute=options.recompute,
    )
    processor: list[float] = []
    history = fit(
        model,
        lambda start: dataset,
        training,
        options.run_dir,
        on_checkpoint=lambda: processor.append(time.process_time()),
        verbose=0,
    )
    num_tokens = options.batch_size * options.length * options.steps * options.records
    return {
        "tokens_per_second": [record["tokens_per_second"] for record in history[1:]],
        # The first process alone is told of checkpoints.
        "processor_seconds_per_1000_tokens": 1000 * (processor[-1] - processor[0]) / num_tokens if processor else None,
        "loss": history[-1]["loss"],
        # Linux counts in kibibytes.
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    option: Any = parser.add_argument
    option("--batch_size", type=int, default=32, help="rows of all devices together")
    option("--length", type=int, default=64, help="tokens of each row")
    option("--hidden_dim", type=int, default=256, help="width of the model, of four layers")
    option("--steps", type=int, default=10, help="updates in each record")
    option("--records", type=int, default=3, help="records that count")
    option("--recompute", action="store_true", help="with --setting, compute what is within a block a second time")
    option("--output", type=Path, default=Path("benchmarks/results/scale.json"), help="the file of results")
    option("--setting", choices=SETTINGS, help="measure this one in this process, which the script does by itself")
    option("--run_dir", help="with --setting, the run's folder")
    return parser


if __name__ == "__main__":
    main()
