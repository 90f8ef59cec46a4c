"""The training run: a plain `compile` and `fit` with checkpoints, exact metrics and an exact resume around them.

One "epoch" of Keras is `checkpoint_steps` steps here. At its end the model is validated, its state saved, and a record
written to metrics.jsonl and to TensorBoard. Run again with the same arguments, `fit` goes on from the newest
checkpoint; on a CPU it ends with the same bits as an uninterrupted run.

SIGTERM, which schedulers send before they kill, and SIGINT end a run after the running step, which is saved; during
validation they wait for its end. What is saved so counts for nothing but the resume: the records and the checkpoints
that are kept become those of an uninterrupted run.

Under a strategy of several devices or processes all of that holds too (see `tfzoo.training.replicas`). Every process
runs this module; the chief alone writes, and the others wait for it where they read what it wrote.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tfzoo.data.sharding import ByShard, Shard
from tfzoo.errors import DataError, TfzooError, UsageError
from tfzoo.training import checkpoints, signals
from tfzoo.training.accumulation import accumulated
from tfzoo.training.checkpoints import Checkpoint
from tfzoo.training.combinations import check_combination
from tfzoo.training.config import TrainingConfig
from tfzoo.training.fine_tuning import rate_multipliers, restrict
from tfzoo.training.measures import Record, best_record
from tfzoo.training.metrics import padding_measured
from tfzoo.training.objectives import Objective, objective, plain_names
from tfzoo.training.optimizers import build_optimizer
from tfzoo.training.recomputation import recomputed
from tfzoo.training.replicas import StopRequest, Workers, distribute, replicated, share
from tfzoo.training.schedules import build_schedule
from tfzoo.training.utilisation import memory, utilisation, work_counted


def fit(
    model: keras.Model,
    train_dataset: Callable[[int], tf.data.Dataset] | ByShard,
    config: TrainingConfig,
    run_dir: str | Path,
    *,
    validation_dataset: tf.data.Dataset | None = None,
    on_checkpoint: Callable[[], None] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
) -> list[Record]:
    """Trains to `config.num_steps` or to early stopping, from the newest checkpoint in `run_dir` if there is one.

    The model ends with its newest weights, or with their moving average if `config` asks for one;
    `checkpoints.load_weights(model, checkpoints.best(run_dir, config.monitor))` loads the best. What `config` freezes
    stays so, and adapters stay in their layers.
    Set the seed (`keras.utils.set_random_seed(config.seed)`) before the model is made: it draws its weights then.

    Args:
        model: what the dataset's labels are for, compiled here; its `task` says what is minimized and measured, see
            `tfzoo.training.objectives`. One without a task gives token logits.
        train_dataset: makes the endless training data, (inputs, labels, sample_weight), from the given batch on; a step
            takes `config.accumulation_steps` batches. Under a strategy of several devices it makes the batches of all,
            of which each device computes its part, or it is a `tfzoo.data.sharding.ByShard`.
        config: how to train.
        run_dir: folder of the run; made if missing. Several processes share it.
        validation_dataset: finite; without it the training loss decides which checkpoint is best.
        on_checkpoint: called when a record's checkpoint is saved, in the process that saved it.
        callbacks: Keras', in every process; an epoch of theirs is what lies between two records.
        verbose: 0 = silent, 1 = Keras' progress bar, 2 = one line per checkpoint.

    Returns: one record per checkpoint of the whole run, as in metrics.jsonl: step, what `tfzoo.training.measures` names
        for the task (loss, smoothed if labels are, and such as accuracy), the same as val_*, learning_rate of that
        step; and of training since the record before: seconds, tokens_per_second (those that count in the loss, so
        without padding) or examples_per_second, gradient_norm (the mean of the global norms before clipping),
        padding_share (see `metrics.padding_measured`), flops_utilisation and memory (see `utilisation`).

    Raises:
        CheckpointError: the newest checkpoint is damaged or of another model.
        RecipeError: what `config` asks for does not go together (see `combinations.check_combination`), or the model
            does not have it: layers, attention, blocks, classes to smooth, a measure of the name `monitor`; or
            gradients are to be accumulated on several devices that compare their texts.
        UsageError: the processes see different run folders.
        DataError: the training data ends early, or the validation data is empty or endless.
        TfzooError: a loss is not finite, or another process is gone; the last checkpoint is still good.
        KeyboardInterrupt: SIGTERM or SIGINT; the newest checkpoint is that of the last step that was run.
    """
    run_dir = Path(run_dir)
    check_combination(model, config)
    strategy = model.distribute_strategy
    workers = Workers(strategy)
    if workers.is_chief:
        checkpoints.clean(run_dir)
    with workers.named_if_lost():
        _check_same_step(workers, run_dir)
    checkpoint: Checkpoint | None = None
    with strategy.scope():
        gradient_norm, padding_share = keras.metrics.Mean("gradient_norm"), keras.metrics.Mean("padding_share")
        if not model.built:
            _build(model, share(train_dataset, 0, Shard()))
        if checkpoints.steps(run_dir):
            checkpoint = checkpoints.newest(run_dir)
            if not checkpoint.step:
                checkpoints.load_weights(model, checkpoint)
        trained_for = objective(model, config.label_smoothing, config.monitor)
        restrict(model, config)
        optimizer = build_optimizer(config, rate_multipliers(model, config.layer_decay))
        optimizer.gradient_norm = gradient_norm
        work = keras.metrics.Sum("work")
        # Models say no, for Keras would otherwise compile where nobody asked.
        model.supports_jit = config.jit_compile
        model.compile(
            optimizer=optimizer,
            loss=trained_for.loss,
            weighted_metrics=trained_for.metrics,
            jit_compile=config.jit_compile,
        )
        model.optimizer.build(model.trainable_variables)
        if checkpoint and checkpoint.step:
            checkpoints.restore(model, checkpoint)
    # Before the first batch Keras' own list holds nothing but the loss.
    own = (*trained_for.meters, gradient_norm, padding_share, work)
    meters = {meter.name: meter for meter in (model.metrics[0], *own)}
    recorder = _Recorder(config, run_dir, checkpoint, meters, trained_for, on_checkpoint, workers)
    if recorder.is_finished():
        # As Keras' `fit` ends: with the moving average of the weights, if there is one.
        model.optimizer.finalize_variable_values(model.trainable_variables)
        logging.info("%s: finished at step %d.", run_dir, recorder.step)
        return recorder.history
    if checkpoint:
        logging.info("%s: going on from step %d.", run_dir, recorder.step)
        _log_other_devices(checkpoint, workers)
    num_validation_batches = validation = None
    if validation_dataset is not None:
        num_validation_batches = _count_batches(validation_dataset)
        validation = distribute(strategy, functools.partial(Shard.batches, dataset=validation_dataset))
    with (
        contextlib.closing(recorder),
        plain_names(model, trained_for),
        padding_measured(model, padding_share),
        work_counted(model, work),
        recomputed(model) if config.recompute else contextlib.nullcontext(),
        replicated(model) as recorder.stop,
        accumulated(model, config.accumulation_steps, recorder.stop),
        signals.postponed() as recorder.signals,
        workers.named_if_lost(),
    ):
        while not recorder.is_finished():
            steps_per_epoch = recorder.next_checkpoint - recorder.step
            # After an interruption the first epoch is shorter than the others, which Keras cannot know.
            num_epochs = 1 if recorder.is_between else math.ceil((config.num_steps - recorder.step) / steps_per_epoch)
            first = recorder.step // config.checkpoint_steps
            start = recorder.step * config.accumulation_steps
            model.fit(
                distribute(strategy, functools.partial(share, train_dataset, start)),
                initial_epoch=first,
                epochs=first + num_epochs,
                steps_per_epoch=steps_per_epoch,
                validation_data=validation,
                validation_steps=num_validation_batches,
                callbacks=[recorder, *callbacks],
                # The data is shuffled already; Keras warns of its own default.
                shuffle=False,
                verbose=verbose if workers.is_chief else 0,
            )
            if config.ema_decay and not recorder.is_finished():
                checkpoints.restore(model, checkpoints.newest(run_dir))
    return recorder.history


_IN_PROGRESS_LINE = (
    "learning_rate",
    "gradient_norm",
    "padding_share",
    "tokens_per_second",
    "examples_per_second",
    "flops_utilisation",
)


class _Recorder(keras.callbacks.Callback):
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
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        # Updates that the weights have seen at the start of the epoch; between two checkpoints, more than the records.
        self.step = checkpoint.step if checkpoint else 0
        self.history = checkpoint.history if checkpoint else []
        self.signals: list[signal.Signals] = []
        self.stop = StopRequest(workers)
        self._progress = checkpoints.read_progress(checkpoint) if checkpoint else {}
        # The history is what the checkpoints say: a run killed between the two may have written less or more.
        if workers.is_chief:
            self._metrics_path.parent.mkdir(parents=True, exist_ok=True)
            self._metrics_path.write_text("".join(map(_json_line, self.history)), encoding="utf-8")

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
        self._batches: list[int] = []
        self._trained: dict[str, float] = {}
        self._start = time.perf_counter()
        # Keras has just reset the metrics that it knows.
        for meter in self._meters.values():
            meter.reset_state()
        for name, variable in self._progress_variables().items():
            if self._progress:
                # What all replicas have measured is the sum of what each process's have.
                variable.assign(self._progress[name] * self._workers.is_chief)
        self._start -= float(self._progress.get("seconds", 0.0))
        self._progress = {}

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self.signals:
            self.stop.ask()
        if self.stop.is_agreed if self.stop.is_shared else self.signals:
            self._save_between(self.step + batch)
            raise KeyboardInterrupt(f"interrupted at step {self.step + batch}.")
        if self.step + batch + 1 == self._config.num_steps:
            self.model.stop_training = True

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._batches.append(batch)

    def on_test_begin(self, logs: dict | None = None) -> None:
        # Keras resets the metrics next.
        self._trained = self._measure_training()
        if self._config.ema_decay:
            self._raw_weights = [variable.numpy() for variable in self.model.trainable_variables]
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def on_test_end(self, logs: dict | None = None) -> None:
        if self._config.ema_decay:
            for variable, value in zip(self.model.trainable_variables, self._raw_weights, strict=True):
                variable.assign(value)
            self._raw_weights = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
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
        if self._workers.is_chief:
            checkpoints.save(self.model, self._run_dir, self.history)
            self._prune()
            with self._metrics_path.open("a", encoding="utf-8") as file:
                file.write(_json_line(record))
            self._write_summaries(record)
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
        """Closes TensorBoard's files."""
        for writer in self._writers.values():
            writer.close()

    @property
    def _metrics_path(self) -> Path:
        return self._run_dir / "metrics.jsonl"

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

    def _write_summaries(self, record: Record) -> None:
        for name, value in record.items():
            folder = "validation" if name.startswith("val_") else "train"
            if folder not in self._writers:
                self._writers[folder] = tf.summary.create_file_writer(str(self._run_dir / "tensorboard" / folder))
            with self._writers[folder].as_default():
                tf.summary.scalar(name.removeprefix("val_"), value, step=int(record["step"]))
        for writer in self._writers.values():
            writer.flush()


def _check_same_step(workers: Workers, run_dir: Path) -> None:
    """Waits for all processes, which then have to see the same newest checkpoint; nobody writes until they train."""
    newest = workers.gather(max(checkpoints.steps(run_dir), default=-1))
    if len(set(newest)) > 1:
        raise UsageError(
            f"`run_dir` must be on a file system that all workers share; {run_dir} has as its newest checkpoint "
            f"{', '.join('none' if step < 0 else f'step {step}' for step in newest)}, by worker."
        )


def _log_other_devices(checkpoint: Checkpoint, workers: Workers) -> None:
    before, now = checkpoint.num_devices, workers.num_devices
    if checkpoint.step and before != now:
        logging.info(
            "saved on %d device%s, goes on on %d: weights, optimizer, the place in the data and the rows of a batch "
            "are the same. Dropout masks are drawn by device and become others, and sums over a batch are added in "
            "another order, so that the last bits of float32 differ from a run on %d.",
            before,
            "s" if before > 1 else "",
            now,
            before,
        )


def _build(model: keras.Model, dataset: tf.data.Dataset) -> None:
    """Makes the variables of a model that was never called, without computing anything."""
    inputs = dataset.element_spec[0]
    model(
        keras.tree.map_structure(lambda spec: keras.Input(batch_shape=tuple(spec.shape), dtype=spec.dtype.name), inputs)
    )


def _count_batches(validation_dataset: tf.data.Dataset) -> int:
    num_batches = int(validation_dataset.cardinality())
    if num_batches == tf.data.INFINITE_CARDINALITY:
        raise DataError("`validation_dataset` is endless; make it with repeat=False.")
    if num_batches == tf.data.UNKNOWN_CARDINALITY:
        # Told the number, Keras does not warn at the end of the data.
        num_batches = int(validation_dataset.reduce(tf.constant(0, "int64"), lambda count, *_: count + 1))
    if not num_batches:
        raise DataError("`validation_dataset` is empty; pass data or None.")
    return num_batches


def _json_line(record: Record) -> str:
    return json.dumps(record) + "\n"
