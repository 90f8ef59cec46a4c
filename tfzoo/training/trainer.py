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
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from tfzoo.data.sharding import ByShard, Shard
from tfzoo.errors import DataError, UsageError
from tfzoo.training import checkpoints, signals
from tfzoo.training.accumulation import accumulated
from tfzoo.training.checkpoint_files import Checkpoint
from tfzoo.training.combinations import check_combination
from tfzoo.training.config import TrainingConfig
from tfzoo.training.fine_tuning import rate_multipliers, restrict
from tfzoo.training.measures import Record
from tfzoo.training.metrics import padding_measured
from tfzoo.training.objectives import objective, plain_names
from tfzoo.training.optimizers import build_optimizer
from tfzoo.training.recomputation import recomputed
from tfzoo.training.recorder import Recorder
from tfzoo.training.replicas import Workers, distribute, replicated, share
from tfzoo.training.utilisation import work_counted


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
    recorder = Recorder(config, run_dir, checkpoint, meters, trained_for, on_checkpoint, workers)
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
