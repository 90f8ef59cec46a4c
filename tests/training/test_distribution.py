"""Twenty steps end alike on one device, on two devices of a process, and on two processes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tests.training import families, two_workers

# One pytest worker starts the processes, which train all subjects that were asked for.
pytestmark = pytest.mark.xdist_group("two_workers")

SUBJECTS = [f"{family}:{optimizer}" for family in families.FAMILIES for optimizer in ("sgd", "adam")]


@pytest.fixture(scope="module")
def workers(request, tmp_path_factory):
    """(family, optimizer, worker) or ("keras", worker) -> what it ended with."""
    directory = tmp_path_factory.mktemp("workers")
    configs = two_workers.tf_configs()
    items = [item for item in request.session.items if item.module is request.module]
    subjects = [item.callspec.params["subject"] for item in items if hasattr(item, "callspec")]
    for code, output in two_workers.finished(families.__name__, directory, *subjects, configs=configs):
        assert code == 0, output
    return lambda *name: dict(np.load(directory / f"{'-'.join(map(str, name))}.npz"))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_one_device_two_devices_and_two_workers(subject, mirrored, workers):
    family, optimizer = subject.split(":")
    keras.utils.set_random_seed(1)
    one = families.trained(tf.distribute.get_strategy(), family, optimizer)
    two = families.trained(mirrored, family, optimizer)
    first, second = (workers(family, optimizer, index) for index in range(two_workers.NUM_WORKERS))
    # It was clipped, and the weights have moved far more than the tolerance.
    assert one["gradient_norm"] > 0.2
    for name, value in one.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        for others in (two, first):
            np.testing.assert_allclose(others[name], value, rtol=0, atol=tolerance("twenty_steps"), err_msg=name)


@pytest.mark.parametrize("subject", ["gpt2:adam:mixed_bfloat16"])
def test_two_workers_in_bfloat16_with_recomputation(subject, workers):
    one = families.trained(tf.distribute.get_strategy(), "gpt2", "adam")
    first, second = (workers(*subject.split(":"), index) for index in range(two_workers.NUM_WORKERS))
    for name, value in one.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        near = (
            {"rtol": tolerance("measured_in_bfloat16")}
            if name in families.MEASURED
            else {"rtol": 0, "atol": tolerance("weights_in_bfloat16")}
        )
        np.testing.assert_allclose(first[name], value, **near, err_msg=name)
    # It was computed in bfloat16.
    assert max(np.abs(first[name] - value).max() for name, value in one.items()) > 10 * tolerance("twenty_steps")


def test_keras_own_fit(mirrored, workers):
    one, two = (families.trained_by_keras(strategy) for strategy in (tf.distribute.get_strategy(), mirrored))
    first, second = (workers("keras", index) for index in range(two_workers.NUM_WORKERS))
    for name, value in one.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        for others in (two, first):
            np.testing.assert_allclose(others[name], value, rtol=0, atol=tolerance("two_replicas"), err_msg=name)
