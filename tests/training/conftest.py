"""What the training tests share: one strategy over two logical CPUs, and one run."""

import pytest
import tensorflow as tf

from tests.training import tiny


@pytest.fixture(scope="session")
def mirrored(two_cpus):
    """Two replicas on one machine.

    One object for all tests: collectives are numbered from a start that each strategy has in common, and TensorFlow
    refuses a number whose shape has changed. The start is moved, as in TensorFlow's own tests, away from other
    strategies of this process.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.distribute.MirroredStrategy, "_collective_key_base", 100_000)
        return tf.distribute.MirroredStrategy(two_cpus)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, _two_logical_cpus):
    """Four steps in one go: the run folder, the model, its history."""
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    return run_dir, *tiny.train(run_dir)
