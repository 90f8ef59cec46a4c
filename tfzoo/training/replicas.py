"""Several devices and several processes that train one model together, as `fit` sees them.

Keras' own `fit` and `evaluate` work under `MirroredStrategy` where every device has batches of one shape, and not under
`MultiWorkerMirroredStrategy` (Keras 3.15: they build the model from the mean over all devices of a batch, and reduce
over workers what a step returns). `replicated` puts functions of ours in the place of theirs. It knows three names of
Keras that are not public: `_maybe_symbolic_build`, `_symbolic_build` and `_distributed_dataset`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfzoo.data.sharding import ByShard, Shard
from tfzoo.errors import TfzooError, one_line

# What TensorFlow raises in the other processes when one ends, by where they are.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError)


class Workers:
    """The processes of a strategy, of which the first, the chief, writes the run's files.

    Every process has to ask the same questions in the same order.

    Args:
        strategy: one process's.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.count, self.index = 1, 0
        resolver = getattr(strategy, "cluster_resolver", None)
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and resolver is not None:
            jobs = resolver.cluster_spec().as_dict()
            self.count = max(sum(map(len, jobs.values())), 1)
            self.index = (resolver.task_id or 0) + (len(jobs.get("chief", ())) if resolver.task_type == "worker" else 0)
        self._collected = tf.function(self._collect, autograph=False)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes."""
        return self.index == 0

    @property
    def num_devices(self) -> int:
        """Devices of all processes together."""
        return self._strategy.num_replicas_in_sync

    def gather(self, number: int) -> list[int]:
        """Returns each process's number, when all have come to this place."""
        if self.count == 1:
            return [number]
        collected = self._collected(tf.constant(number, tf.int64)).numpy()
        return [int(one) for one in collected[:: self.num_devices // self.count]]

    def wait(self) -> None:
        """Returns when all processes have come to this place."""
        self.gather(0)

    @contextlib.contextmanager
    def named_if_lost(self) -> Iterator[None]:
        """Within, says what to do where another process is gone, for which TensorFlow waits in vain.

        Raises:
            TfzooError: it is.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.count == 1 or not isinstance(error, _LOST):
                raise
            raise TfzooError(
                f"another of the {self.count} workers is gone, or never came ({one_line(error)[:200]}). Start all of "
                "them again with the same command, which resumes the run from its newest checkpoint."
            ) from error

    def _collect(self, number: tf.Tensor) -> tf.Tensor:
        def of_replica(number: tf.Tensor) -> tf.Tensor:
            return _all_numbers(number)

        return _first(self._strategy, self._strategy.run(of_replica, args=(number,)))


def distribute(
    strategy: tf.distribute.Strategy, dataset: Callable[[Shard], tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Returns data for `fit` and `evaluate`.

    Args:
        strategy: which devices share it.
        dataset: makes one process's share, as its devices take it one after the other.
    """
    if strategy.num_replicas_in_sync == 1:
        return dataset(Shard())

    def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return dataset(
            Shard(
                index=context.input_pipeline_id,
                count=context.num_input_pipelines,
                num_devices=context.num_replicas_in_sync // context.num_input_pipelines,
            )
        )

    return strategy.distribute_datasets_from_function(of_process)


def share(train_dataset: Callable[[int], tf.data.Dataset] | ByShard, start: int, shard: Shard) -> tf.data.Dataset:
    """Returns one process's share of the training data from a batch on."""
    if isinstance(train_dataset, ByShard):
        return train_dataset.make(start, shard)
    return shard.batches(train_dataset(start))


@contextlib.contextmanager
def replicated(model: keras.Model) -> Iterator[StopRequest]:
    """Within, Keras' `fit` and `evaluate` train and test a model on all devices of its strategy.

    On one device Keras is left as it is. Data has to come from `strategy.distribute_datasets_from_function`, or be
    split by Keras.

    Args:
        model: made in the strategy's scope, and compiled with an optimizer of `tfzoo.training.optimizers` and a loss of
            `tfzoo.training.losses`.

    Returns: what lets all processes stop at one step.
    """
    strategy = model.distribute_strategy
    stop = StopRequest(Workers(strategy))
    if strategy.num_replicas_in_sync == 1:
        yield stop
        return

    def build(iterator: Any = None, data_batch: Any = None) -> None:
        if data_batch is None:
            specs = iterator._distributed_dataset.element_spec
            data_batch = tf.nest.map_structure(_symbolic, specs, expand_composites=False)
        with strategy.scope():
            model._symbolic_build(data_batch=data_batch)

    model._maybe_symbolic_build = build
    # Keras makes functions of its own only where it finds none.
    model.train_function = stop.noticed(on_replicas(model, lambda batch: model.train_step(batch), stop=stop))
    model.test_function = on_replicas(model, lambda batch: model.test_step(batch))
    try:
        yield stop
    finally:
        del model._maybe_symbolic_build
        model.train_function = model.test_function = None


class StopRequest:
    """Whether a process was asked to end, of which all processes learn at the same step.

    Schedulers send SIGTERM to one worker of several, or to all at times that differ by more than a step; each has to
    stop at the same step, since the others wait for it in the next one. So each step of training adds up what the
    processes were asked for.

    Args:
        workers: of the model's strategy.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._asked = tf.Variable(0, trainable=False, dtype=tf.int64) if workers.count > 1 else None
        self._was_asked: list[tf.Tensor] = []

    def ask(self) -> None:
        """Says that this process was asked to end."""
        if self._asked is not None:
            self._asked.assign(1)

    @property
    def is_agreed(self) -> bool:
        """Whether a process was asked before the step that was run last, as all processes know."""
        return any(int(tf.reduce_sum(asked)) for asked in self._was_asked)

    def in_step(self) -> tf.Tensor:
        """Returns the requests of all processes; within a replica's step."""
        return _all_numbers(tf.convert_to_tensor(self._asked))

    def noticed(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns a train function as Keras takes it."""
        if self._asked is None:
            return function

        def train_function(iterator: Any) -> Any:
            logs, asked = function(iterator)
            self._was_asked = [asked]
            return logs

        return train_function

    @property
    def is_shared(self) -> bool:
        """Whether there are several processes to agree."""
        return self._asked is not None


def on_replicas(
    model: keras.Model, step: Callable[[Any], Any], *, num_batches: int | None = None, stop: StopRequest | None = None
) -> Callable[[Any], Any]:
    """Returns a function of an iterator that runs a step on each device, and gives what the first one here returns.

    Args:
        model: whose strategy runs it.
        step: takes a replica's batch, or a list of batches.
        num_batches: None = a batch, not a list.
        stop: what is returned too, where there are several processes.
    """
    strategy = model.distribute_strategy

    def of_replica(batches: Any) -> Any:
        result = step(batches)
        return (result, stop.in_step()) if stop is not None and stop.is_shared else result

    def function(iterator: Any) -> Any:
        batches = next(iterator) if num_batches is None else [next(iterator) for _ in range(num_batches)]
        return _first(strategy, strategy.run(of_replica, args=(batches,)))

    if model.run_eagerly:
        return function
    if isinstance(strategy, tf.distribute.TPUStrategy):
        # XLA needs every length: a trace for each of a few, which the batch tells and the iterator does not.
        of_batch = tf.function(lambda batches: function(iter([batches])), autograph=False)
        return lambda iterator: of_batch(next(iterator))
    return tf.function(function, autograph=False)


def _all_numbers(number: tf.Tensor) -> tf.Tensor:
    """Each replica's number, by replica."""
    replica = tf.distribute.get_replica_context()
    own = tf.one_hot(replica.replica_id_in_sync_group, replica.num_replicas_in_sync, dtype=number.dtype) * number
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)


def _first(strategy: tf.distribute.Strategy, values: Any) -> Any:
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)


def _symbolic(spec: Any) -> keras.KerasTensor:
    one = getattr(spec, "_value_specs", (spec,))[0]
    return keras.KerasTensor(tuple(one.shape), one.dtype.name)
