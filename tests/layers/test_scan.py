"""The loop over time against the same loop in Python."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.scan import scan

SPECS = [tf.TensorSpec((2,)), tf.TensorSpec((), tf.int32)]


def advance(inputs, state):
    x, count = inputs
    state = {"sum": state["sum"] * 0.5 + x, "count": state["count"] + count}
    return [state["sum"] + 1.0, count * 2], state


@pytest.mark.parametrize("num_steps", [1, 2, 5])
@pytest.mark.parametrize("known", [True, False])
def test_equals_a_loop_in_python(num_steps, known):
    x, counts = np.random.default_rng(0).normal(size=(num_steps, 2)).astype(np.float32), np.arange(1, num_steps + 1)
    expected, state = [], {"sum": np.zeros(2, np.float32), "count": 0}
    for each in zip(x, counts, strict=True):
        found, state = advance(each, state)
        expected.append(found)

    @tf.function(input_signature=[tf.TensorSpec((num_steps if known else None, 2)), tf.TensorSpec((None,), tf.int32)])
    def run(x, counts):
        return scan(advance, [x, counts], {"sum": tf.zeros(2), "count": tf.constant(0)}, SPECS)

    for outputs, last in (run(x, counts.astype(np.int32)), run.python_function(x, counts.astype(np.int32))):
        for index, value in enumerate(outputs):
            np.testing.assert_allclose(value, [found[index] for found in expected], rtol=1e-6)
        np.testing.assert_allclose(last["sum"], state["sum"], rtol=1e-6)
        assert last["count"] == state["count"]


def test_one_step_needs_no_loop():
    def traced(num_steps):
        run = tf.function(lambda x: scan(lambda inputs, state: (inputs, state), [x], (), SPECS[:1]), autograph=False)
        return [node.type for node in run.get_concrete_function(tf.zeros([num_steps, 2])).graph.get_operations()]

    assert not any("While" in name for name in traced(1))
    assert any("While" in name for name in traced(2))
