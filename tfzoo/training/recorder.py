"""What a run does around Keras' steps: it measures, records, saves, validates the moving average, ends when asked to.

All of it is one Keras callback, whose epoch is what lies between two records. Every process has one; that of the chief
alone writes, and the others wait until the checkpoint is there.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from tfzoo.errors import DataError, TfzooError
from tfzoo.training import checkpoints
from tfzoo.training.checkpoint_files import Checkpoint
from tfzoo.training.config import TrainingConfig
from tfzoo.training.measures import Record, best_record
from tfzoo.training.objectives import Objective
from tfzoo.training.record_files import RecordFiles
from tfzoo.training.replicas import StopRequest, Workers
from tfzoo.training.schedules import build_schedule
from tfzoo.training.utilisation import memory, utilisation

_IN_PROGRESS_LINE = (
    "learning_rate",
    "gradient_norm",
    "padding_share",
    "tokens_per_second",
    "examples_per_second",
    "flops_utilisation",
)


class Recorder(keras.callbacks.Callback):
    """Turns the end of each Keras epoch into a record and a checkpoint, and says when to stop."""

    # Keras may count batches in another thread, and need not wait for each batch's result.
    async_safe = True

    def __init__(
        self,
        config: TrainingConfig,
        run_dir: Path,
        checkpoint: Checkpoint | None,
        meters: dict[str, keras.metrics.Metric],
        trained_for: Objective,
        on_checkpoint: Callable[[], None] | None,
        workers: Workers,
    ) -> None:
        super().__init__()
        self._on_checkpoint = on_checkpoint
        self._config = config
        self._run_dir = run_dir
        self._meters = meters
        self._counted = trained_for.counted
        self._workers = workers
        self._schedule = build_schedule(config)
        # Updates that the weights have seen at the start of the epoch; between two checkpoints, more than the records.
        self.step = checkpoint.step if checkpoint else 0
        self.history = checkpoint.history if checkpoint else []
        self.signals: list[signal.Signals] = []
        self.stop = StopRequest(workers)
        self._progress = checkpoints.read_progress(checkpoint) if checkpoint else {}
        # The history is what the checkpoints say: a run killed between the two may have written less or more.
        self._files = RecordFiles(run_dir, self.history) if workers.is_chief else None

    @property
    def _recorded_step(self) -> int:
        return int(self.history[-1]["step"]) if self.history else 0

    @property
    def is_between(self) -> bool:
        """Whether the run goes on from between two records."""
        return self.step > self._recorded_step

    @property
    def next_checkpoint(self) -> int:
        """Step of the next record."""
        return min(self._recorded_step + self._config.checkpoint_steps, self._config.num_steps)

    def is_finished(self) -> bool:
        """Whether the run is at its last step, or its patience at its end."""
        if self.step >= self._config.num_steps:
            return True
        if not self.history or not self._config.early_stopping_patience:
            return False
        best_step = best_record(self.history, self._config.monitor)["step"]
        since_best = sum(record["step"] > best_step for record in self.history)
        return since_best >= self._config.early_stopping_patience

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts to measure, or goes on where an interrupted run had stopped."""
        self._batches: list[int] = []
        self._trained: dict[str, float] = {}
        self._start = time.perf_counter()
        # Keras has just reset the metrics that it knows.
        for meter in self._meters.values():
            meter.reset_state()
        for name, variable in self._progress_variables().items():
            if self._progress:
                # What all replicas have measured; TensorFlow gives each its part of the sum.
                variable.assign(self._progress[name])
        self._start -= float(self._progress.get("seconds", 0.0))
        self._progress = {}

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Ends the run if it was asked to, or lets this step be the last."""
        if self.signals:
            self.stop.ask()
        if self.stop.is_agreed if self.stop.is_shared else self.signals:
            self._save_between(self.step + batch)
            raise KeyboardInterrupt(f"interrupted at step {self.step + batch}.")
        if self.step + batch + 1 == self._config.num_steps:
            self.model.stop_training = True

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the step."""
        self._batches.append(batch)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Puts the moving average of the weights in their place, if there is one."""
        # Keras resets the metrics next.
        self._trained = self._measure_training()
        if self._config.ema_decay:
            self._raw_weights = [variable.numpy() for variable in self.model.trainable_variables]
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def on_test_end(self, logs: dict | None = None) -> None:
        """Gives the weights back."""
        if self._config.ema_decay:
            for variable, value in zip(self.model.trainable_variables, self._raw_weights, strict=True):
                variable.assign(value)
            self._raw_weights = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Makes the record and the checkpoint."""
        if self.step + len(self._batches) < self.next_checkpoint:
            raise DataError(
                f"`train_dataset` ended at step {self.step + len(self._batches)} of num_steps="
                f"{self._config.num_steps}; make it endless with repeat=True."
            )
        logs = {} if logs is None else logs
        record = self._record(logs)
        # Keras' progress line is written after this, from the same numbers.
        logs |= {name: record[name] for name in _IN_PROGRESS_LINE if name in record}
        self.history.append(record)
        if self._files:
            checkpoints.save(self.model, self._run_dir, self.history)
            self._prune()
            self._files.add(record)
        self.step = int(record["step"])
        if self._workers.is_chief and self._on_checkpoint is not None:
            self._on_checkpoint()
        # The others go on when the checkpoint is there.
        is_asked = any(self._workers.gather(bool(self.signals)))
        if self.is_finished():
            self.model.stop_training = True
        elif is_asked:
            raise KeyboardInterrupt(f"interrupted at step {self.step}.")

    def _save_between(self, step: int) -> None:
        progress = {name: variable.numpy() for name, variable in self._progress_variables().items()}
        progress["seconds"] = np.float64(time.perf_counter() - self._start)
        if self._workers.is_chief and step and step not in checkpoints.steps(self._run_dir):
            checkpoints.save_between(self.model, self._run_dir, self.history, step, progress)
            self._prune()
        self._workers.wait()

    def _prune(self) -> None:
        config = self._config
        keep_best = max(config.average_checkpoints, 1) if config.average == "best" else 1
        checkpoints.prune(self._run_dir, config.keep_checkpoints, config.monitor, keep_best)

    def _progress_variables(self) -> dict[str, keras.Variable]:
        return {f"{name}/{v.name}": v for name, meter in self._meters.items() for v in meter.variables}

    def close(self) -> None:
        """Closes what the records are written to."""
        if self._files:
            self._files.close()

    def _measure_training(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._start
        # The loss is averaged by rows, each of which is an example.
        rate = "tokens_per_second" if self._counted else "examples_per_second"
        counted = float(self._meters[self._counted or "loss"].count.numpy())
        measured = {"seconds": seconds, rate: counted / seconds}
        for name in ("gradient_norm", "padding_share"):
            if float(self._meters[name].count.numpy()):
                measured[name] = float(self._meters[name].result())
        return measured | utilisation(self.model, float(self._meters["work"].result()), seconds) | memory()

    def _record(self, logs: dict[str, float]) -> Record:
        step = self.step + len(self._batches)
        record: Record = {"step": step}
        for name, value in logs.items():
            record[name] = float(value)
            if name.endswith("nats_per_token"):
                # 709 is the most that a float can be the exponential of.
                record[name.replace("nats_per_token", "perplexity")] = math.exp(min(record[name], 709.0))
        # Keras' optimizers count from 0. In float16 they leave steps out.
        num_updates = int(self.model.optimizer.iterations.numpy())
        record["learning_rate"] = float(self._schedule(max(num_updates - 1, 0)))
        record |= self._trained or self._measure_training()
        for name, value in record.items():
            if not math.isfinite(value):
                raise TfzooError(
                    f"training diverged: {name}={value} at step {step}. Lower `learning_rate` or raise "
                    f"`warmup_steps`; the newest checkpoint is still that of step {self.step}."
                )
        return record
