"""`tfzoo train` in a process that can be told to die: python killed.py MOMENT NUM_CPUS ARGUMENT ...

MOMENT says where, as KIND:STEP, and of several workers which, as KIND:STEP:WORKER:

    none          nowhere
    step:5        by SIGKILL after five steps
    half:4        by SIGKILL, with half a checkpoint of step 4 written
    saved:4       by SIGKILL, with the checkpoint of step 4 in its place and no line in metrics.jsonl
    validating:4  by SIGKILL, during the validation of step 4
    asked:3       by SIGTERM before step 4: it is to end by itself
"""

import os
import signal
import sys

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


if __name__ == "__main__":
    moment, num_cpus, *arguments = sys.argv[1:]
    if moment != "none":
        kind, step, *worker = moment.split(":")
        if not worker or f'"index": {worker[0]}' in os.environ["TF_CONFIG"]:
            arm(kind, int(step))
    if int(num_cpus) > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(num_cpus))
    sys.exit(main([*arguments, *(f"--set={setting}" for setting in SETTINGS)]))
