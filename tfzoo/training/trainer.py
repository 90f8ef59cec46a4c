"""The training run: a plain `compile` and `fit` with checkpoints, metrics by token and exact resume around them.

One "epoch" of Keras is `checkpoint_steps` steps here. At its end the model is validated, its state saved, and a record
written to metrics.jsonl and to TensorBoard. Run again with the same arguments, `fit` goes on from the newest
checkpoint; on a CPU it ends with the same bits as an uninterrupted run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from tfzoo.errors import DataError, TfzooError
from tfzoo.training import checkpoints
from tfzoo.training.checkpoints import Record
from tfzoo.training.config import TrainingConfig
from tfzoo.training.losses import cross_entropy
from tfzoo.training.metrics import NatsPerToken, TokenAccuracy
from tfzoo.training.optimizers import build_optimizer
from tfzoo.training.schedules import build_schedule


def fit(
    model: keras.Model,
    train_dataset: Callable[[int], tf.data.Dataset],
    config: TrainingConfig,
    run_dir: str | Path,
    *,
    validation_dataset: tf.data.Dataset | None = None,
    verbose: int = 1,
) -> list[Record]:
    """Trains to `config.num_steps` or to early stopping, from the newest checkpoint in `run_dir` if there is one.

    The model ends with its newest weights; `checkpoints.load_weights(model, checkpoints.best(run_dir))` loads the best.
    Set the seed (`keras.utils.set_random_seed(config.seed)`) before the model is made: it draws its weights then.

    Args:
        model: token logits from the dataset's inputs; compiled here.
        train_dataset: makes the endless training data, (inputs, labels, sample_weight), from the given step on.
        config: how to train.
        run_dir: folder of the run; made if missing.
        validation_dataset: finite; without it the training loss decides which checkpoint is best.
        verbose: 0 = silent, 1 = Keras' progress bar, 2 = one line per checkpoint.

    Returns: one record per checkpoint of the whole run, as in metrics.jsonl: step, loss (nats, smoothed),
        nats_per_token, perplexity, token_accuracy, the same as val_*, learning_rate of that step; seconds and
        tokens_per_second of training since the record before.

    Raises:
        CheckpointError: the newest checkpoint is damaged or of another model.
        DataError: the training data ends early, or the validation data is empty or endless.
        TfzooError: a loss is not finite; the last checkpoint is still the last finite one.
    """
    run_dir = Path(run_dir)
    checkpoints.clean(run_dir)
    nats_per_token = NatsPerToken()
    history: list[Record] = []
    with model.distribute_strategy.scope():
        if not model.built:
            _build(model, train_dataset(0))
        model.compile(
            optimizer=build_optimizer(config),
            loss=cross_entropy(config.label_smoothing),
            weighted_metrics=[nats_per_token, TokenAccuracy()],
            # XLA would compile again for each bucket of lengths.
            jit_compile=False,
        )
        model.optimizer.build(model.trainable_variables)
        if checkpoints.steps(run_dir):
            checkpoint = checkpoints.newest(run_dir)
            checkpoints.restore(model, checkpoint)
            history = checkpoint.history
    recorder = _Recorder(config, run_dir, history, nats_per_token)
    if recorder.is_finished():
        logging.info("%s: finished at step %d.", run_dir, recorder.step)
        return history
    if history:
        logging.info("%s: going on from step %d.", run_dir, recorder.step)
    num_checkpoints = math.ceil((config.num_steps - recorder.step) / config.checkpoint_steps)
    first = recorder.step // config.checkpoint_steps
    try:
        model.fit(
            train_dataset(recorder.step),
            initial_epoch=first,
            epochs=first + num_checkpoints,
            steps_per_epoch=config.checkpoint_steps,
            validation_data=validation_dataset,
            validation_steps=None if validation_dataset is None else _count_batches(validation_dataset),
            callbacks=[recorder],
            # The data is shuffled already; Keras warns of its own default.
            shuffle=False,
            verbose=verbose,
        )
    finally:
        recorder.close()
    return history


class _Recorder(keras.callbacks.Callback):
    """Turns the end of each Keras epoch into a record and a checkpoint, and says when to stop."""

    # Keras may count batches in another thread, and need not wait for each batch's result.
    async_safe = True

    def __init__(
        self, config: TrainingConfig, run_dir: Path, history: list[Record], nats_per_token: NatsPerToken
    ) -> None:
        super().__init__()
        self._config = config
        self._run_dir = run_dir
        self._history = history
        self._nats_per_token = nats_per_token
        self._schedule = build_schedule(config)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        # The history is what the checkpoints say: a run killed between the two may have written less or more.
        self._metrics_path.parent.mkdir(parents=True, exist_ok=True)
        self._metrics_path.write_text("".join(map(_json_line, history)), encoding="utf-8")

    @property
    def step(self) -> int:
        """Step of the last record."""
        return int(self._history[-1]["step"]) if self._history else 0

    def is_finished(self) -> bool:
        """Whether the run is at its last step, or its patience at its end."""
        if self.step >= self._config.num_steps:
            return True
        if not self._history or not self._config.early_stopping_patience:
            return False
        best_step = checkpoints.best_record(self._history)["step"]
        since_best = sum(record["step"] > best_step for record in self._history)
        return since_best >= self._config.early_stopping_patience

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._batches: list[int] = []
        self._trained: dict[str, float] = {}
        self._start = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self.step + batch + 1 == self._config.num_steps:
            self.model.stop_training = True

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._batches.append(batch)

    def on_test_begin(self, logs: dict | None = None) -> None:
        # Keras resets the metrics next.
        self._trained = self._measure_speed()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        expected = min(self._config.checkpoint_steps, self._config.num_steps - self.step)
        if len(self._batches) < expected:
            raise DataError(
                f"`train_dataset` ended at step {self.step + len(self._batches)} of num_steps="
                f"{self._config.num_steps}; make it endless with repeat=True."
            )
        record = self._record(logs or {})
        self._history.append(record)
        checkpoints.save(self.model, self._run_dir, self._history)
        checkpoints.prune(self._run_dir, self._config.keep_checkpoints)
        with self._metrics_path.open("a", encoding="utf-8") as file:
            file.write(_json_line(record))
        self._write_summaries(record)
        if self.is_finished():
            self.model.stop_training = True

    def close(self) -> None:
        """Closes TensorBoard's files."""
        for writer in self._writers.values():
            writer.close()

    @property
    def _metrics_path(self) -> Path:
        return self._run_dir / "metrics.jsonl"

    def _measure_speed(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._start
        num_tokens = float(self._nats_per_token.count.numpy())
        return {"seconds": seconds, "tokens_per_second": num_tokens / seconds}

    def _record(self, logs: dict[str, float]) -> Record:
        step = self.step + len(self._batches)
        record: Record = {"step": step}
        for name, value in logs.items():
            record[name] = float(value)
            if name.endswith("nats_per_token"):
                # 709 is the most that a float can be the exponential of.
                record[name.replace("nats_per_token", "perplexity")] = math.exp(min(record[name], 709.0))
        # Keras' optimizers count from 0.
        record["learning_rate"] = float(self._schedule(step - 1))
        record |= self._trained or self._measure_speed()
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
