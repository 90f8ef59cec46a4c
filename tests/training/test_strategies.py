"""The strategy of each name, and what is said where there is none."""

import json

import pytest
import tensorflow as tf

import tfzoo
from tfzoo.errors import UsageError
from tfzoo.training.replicas import Workers, distribute

NAMES = ("TF_CONFIG", "TFZOO_NUM_WORKERS", "SLURM_STEP_NUM_TASKS", "TPU_NAME")


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["single", "auto"])
def test_one_device_is_keras_own_way(name):
    assert tfzoo.training.strategy(name) is tf.distribute.get_strategy()
    assert not tf.distribute.has_strategy()


def test_mirrored_takes_all_devices(two_cpus):
    assert tfzoo.training.strategy("mirrored").num_replicas_in_sync == len(two_cpus)


def test_a_cluster_of_one_is_one_device(environ):
    config = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    environ.setenv("TF_CONFIG", json.dumps(config))
    assert tfzoo.training.strategy() is tf.distribute.get_strategy()


def test_workers_have_to_be_named():
    with pytest.raises(UsageError, match="needs to know the workers: set TF_CONFIG, or start them by Slurm's srun"):
        tfzoo.training.strategy("multi_worker")


def test_workers_have_to_be_asked_for_first(environ):
    _ = tf.constant(1) + 1
    config = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}
    environ.setenv("TF_CONFIG", json.dumps(config))
    for name in ("multi_worker", "auto"):
        with pytest.raises(UsageError, match="must be the first that this process asks of TensorFlow"):
            tfzoo.training.strategy(name)


def test_no_tpu():
    with pytest.raises(UsageError, match=r"`strategy` 'tpu' finds no TPU \(.+\); set TPU_NAME, or use another"):
        tfzoo.training.strategy("tpu")


def test_one_process_waits_for_nobody(mirrored):
    for strategy in (tf.distribute.get_strategy(), mirrored):
        workers = Workers(strategy)
        assert (workers.is_chief, workers.count) == (True, 1)
        assert workers.gather(7) == [7]


def test_devices_take_their_rows(mirrored):
    rows = tf.range(5)
    dataset = tf.data.Dataset.from_tensors((rows, rows, tf.ones(5)))
    ((_, labels, weights),) = distribute(mirrored, lambda shard: shard.batches(dataset))
    assert [one.numpy().tolist() for one in labels.values] == [[0, 1, 2], [3, 4, 0]]
    assert [one.numpy().tolist() for one in weights.values] == [[1, 1, 1], [1, 1, 0]]
