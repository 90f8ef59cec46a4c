"""The test environment itself."""

import os

import pytest
import tensorflow as tf

from tests.tolerances import TOLERANCES


def test_two_logical_cpus_compute(two_cpus):
    assert two_cpus == ["/device:CPU:0", "/device:CPU:1"]
    with tf.device(two_cpus[1]):
        assert (tf.ones([3]) * 2.0).device.endswith("CPU:1")


@pytest.mark.xdist_group("grouped")
def test_groups_stay_on_one_worker(request):
    """Some versions of pytest and pytest-xdist drop the groups: each worker then exports and trains anew."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@grouped")


def test_no_gpu_is_visible():
    assert tf.config.list_physical_devices("GPU") == []
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_every_tolerance_has_a_reason():
    for name, (value, reason) in TOLERANCES.items():
        assert 0 < value < 1e-2, name
        assert len(reason.split()) > 3, name
