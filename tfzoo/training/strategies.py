"""Where a model is trained: the `tf.distribute` strategy of each name, made ready for the trainer and for plain Keras.

    with tfzoo.training.strategy("mirrored").scope():
        model = tfzoo.models.Transformer(config)
        model.compile(...)
    model.fit(...)

    single          one device
    mirrored        all GPUs of this machine; where it has none, all logical CPUs, of which TensorFlow makes one
    multi_worker    several processes, on one machine or many, see `tfzoo.training.cluster`
    tpu             the TPU that TPU_NAME names, or that of this machine; not run on a TPU by us
    auto            several processes if the environment tells of them, else a TPU, several GPUs, one device

A batch is that of all devices together: twice the devices make a step shorter and not larger.
"""

from __future__ import annotations

import os

import tensorflow as tf

from tfzoo.errors import UsageError, one_line
from tfzoo.training.cluster import Cluster, check_strategy, from_environment


def strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns a strategy; a model that is made within its `scope()` is trained by it.

    Under "multi_worker" it has to be the first that a process asks of TensorFlow, and Keras' own `fit` works within
    `tfzoo.training.replicated(model)`.

    Args:
        name: "auto", "single", "mirrored", "multi_worker" or "tpu".

    Raises:
        UsageError: the name is unknown, the environment tells of no workers or of no TPU, or TensorFlow has computed
            before.
    """
    check_strategy(name)
    cluster = from_environment(os.environ) if name in ("auto", "multi_worker") else None
    if name == "auto":
        name = _fitting(cluster)
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "tpu":
        return _tpu()
    if cluster is None:
        raise UsageError(
            "`strategy` 'multi_worker' needs to know the workers: set TF_CONFIG, or start them by Slurm's srun, or set "
            "TFZOO_NUM_WORKERS and TFZOO_WORKER_HOSTS; none is set."
        )
    return _multi_worker(cluster)


def needs_static_shapes(strategy: tf.distribute.Strategy) -> bool:
    """Whether each batch has to have one of a few shapes."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def _fitting(cluster: Cluster | None) -> str:
    if cluster is not None and len(cluster.addresses) > 1:
        return "multi_worker"
    if os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"):
        return "tpu"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "single"


def _multi_worker(cluster: Cluster) -> tf.distribute.Strategy:
    config = cluster.tf_config
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(config["cluster"]),
        task_type=config["task"]["type"],
        task_id=config["task"]["index"],
        rpc_layer="grpc",
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise UsageError(
            "`strategy` 'multi_worker' must be the first that this process asks of TensorFlow, which has computed "
            "already; ask for the strategy before models, tensors and datasets are made."
        ) from error


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(os.environ.get("TPU_NAME", "local"))
    except (ValueError, tf.errors.OpError) as error:
        reason = one_line(error).partition(".")[0]
        raise UsageError(f"`strategy` 'tpu' finds no TPU ({reason}); set TPU_NAME, or use another strategy.") from error
    return tf.distribute.TPUStrategy(resolver)
