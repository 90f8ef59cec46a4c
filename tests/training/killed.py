"""`tfzoo train` in processes that can be told to die.

A moment says where, as KIND:STEP, and of several workers which, as KIND:STEP:WORKER:

    none          nowhere
    step:5        by SIGKILL after five steps
    half:4        by SIGKILL, with half a checkpoint of step 4 written
    saved:4       by SIGKILL, with the checkpoint of step 4 in its place and no line in metrics.jsonl
    validating:4  by SIGKILL, during the validation of step 4
    asked:3       by SIGTERM before step 4: it is to end by itself

The processes are forked from one that has imported this module and computed nothing, since the import costs more than
such a training. That one starts with the first of them, and ends with the process that asked.
"""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfzoo.cli.main import main
from tfzoo.training import checkpoint_files, checkpoints, trainer

SETTINGS = (
    "training.num_steps=8",
    "training.checkpoint_steps=2",
    "training.warmup_steps=2",
    "training.ema_decay=0.5",
    "training.accumulation_steps=2",
    "model.hidden_dim=8",
    "model.intermediate_dim=12",
    "model.num_layers=1",
    "model.dropout=0.3",
    "model.max_sequence_length=17",
    "data.batch_size=5",
    "data.max_source_length=13",
    "data.max_target_length=13",
    "decoding.max_length=12",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kind: str, step: int) -> None:
    """Makes this process die at a moment."""

    class Recorder(trainer.Recorder):
        def on_train_batch_begin(self, batch, logs=None):
            if self.step + batch == step and kind == "step":
                die()
            if self.step + batch == step and kind == "asked":
                os.kill(os.getpid(), signal.SIGTERM)
            super().on_train_batch_begin(batch, logs)

        def on_test_batch_end(self, batch, logs=None):
            if self.step + len(self._batches) == step and kind == "validating":
                die()

    save_file, prune = checkpoint_files.save_file, checkpoints.prune

    def save_half(tensors, path):
        save_file(tensors, path)
        if path.parent.name.endswith(f"{step:08}"):
            os.truncate(path, path.stat().st_size // 2)
            die()

    def prune_later(run_dir, *arguments):
        if max(checkpoints.steps(run_dir)) == step:
            die()
        prune(run_dir, *arguments)

    trainer.Recorder = Recorder
    if kind == "half":
        checkpoint_files.save_file = save_half
    if kind == "saved":
        checkpoints.prune = prune_later


_PROCESSES = multiprocessing.get_context("forkserver")


def finished(
    moment: str, arguments: Sequence[str], *, num_cpus: int = 1, configs: Sequence[str | None] = (None,)
) -> list[tuple[int, str]]:
    """Exit code and output of one process for each TF_CONFIG, None being a run without.

    Args:
        moment: when which of them dies.
        arguments: of the command line, to which come `SETTINGS`.
        num_cpus: logical CPUs of each.
        configs: a TF_CONFIG for each.
    """
    _PROCESSES.set_forkserver_preload([__name__])
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory) / str(index) for index in range(len(configs))]
        processes = [
            _PROCESSES.Process(target=_main, args=(moment, [*arguments], num_cpus, config, output))
            for config, output in zip(configs, outputs, strict=True)
        ]
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join(timeout=900)
        finally:
            for process in processes:
                process.kill()
                process.join()
        return [(one.exitcode, output.read_text()) for one, output in zip(processes, outputs, strict=True)]


def _main(moment: str, arguments: list[str], num_cpus: int, config: str | None, output: Path) -> None:
    with output.open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    if config is not None:
        os.environ["TF_CONFIG"] = config
    if moment != "none":
        kind, step, *worker = moment.split(":")
        if not worker or json.loads(os.environ["TF_CONFIG"])["task"]["index"] == int(worker[0]):
            arm(kind, int(step))
    if num_cpus > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_cpus)
    sys.exit(main([*arguments, *(f"--set={setting}" for setting in SETTINGS)]))
