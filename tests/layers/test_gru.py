"""The GRU layer against NumPy and Keras: values, both directions, padding, gradients, one node for conversion."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.references.gru_seq2seq import gru
from tests.tolerances import tolerance
from tfzoo.layers.gru import GRU
from tfzoo.layers.recurrent import as_one_operator

B, T, D, H = 4, 7, 5, 3
LENGTHS = [7, 3, 0, 1]
MASK = (np.arange(T) < np.array(LENGTHS)[:, None]).astype(np.int32)


def new_layer(**options):
    """A layer with random weights everywhere; equal ones at each call."""
    layer = GRU(H, **options)
    layer.build((None, None, D))
    generator = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(0, 0.7, variable.shape))
    return layer


@pytest.fixture(params=[False, True], ids=["one way", "both ways"])
def layer(request):
    return new_layer(bidirectional=request.param)


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, HIDDEN = numbers(1, B, T, D), numbers(2, B, 2 * H)


def hidden(layer):
    return HIDDEN if layer.bidirectional else HIDDEN[:, :H]


def in_numpy(layer, x, before, lengths, weights=None):
    """What the layer returns; zeros at padding."""
    if weights is None:
        weights = {variable.name: variable.numpy().astype(np.float64) for variable in layer.trainable_variables}
    y, last = np.zeros((*x.shape[:2], before.shape[1])), np.array(before, np.float64)
    for row, length in enumerate(lengths):
        for direction in range(before.shape[1] // H):
            of_it, step = slice(direction * H, (direction + 1) * H), -1 if direction else 1
            prefix = "backward_" if direction else ""
            states = gru(list(x[row, :length][::step]), weights, prefix, before[row, of_it])
            if length:
                y[row, :length, of_it] = states[::step]
                last[row, of_it] = states[-1]
    return y, last


def assert_close(found, expected):
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=tolerance("numpy_parity"))


class TestValues:
    @pytest.mark.parametrize("graph", [False, True])
    def test_equals_numpy(self, layer, graph):
        call = tf.function(layer, autograph=False) if graph else layer
        assert_close(call(X, hidden(layer)), in_numpy(layer, X, hidden(layer), [T] * B))

    def test_equals_keras_with_the_same_weights(self, layer):
        other = keras.layers.GRU(H, return_sequences=True, return_state=True, reset_after=True)
        if layer.bidirectional:
            other = keras.layers.Bidirectional(other)
        other.build((None, None, D))
        weights = [variable.numpy() for variable in layer.trainable_variables]
        other.set_weights(
            [
                value
                for i in range(0, len(weights), 4)
                for value in (*weights[i : i + 2], np.stack(weights[i + 2 : i + 4]))
            ]
        )
        before = [hidden(layer)[:, i : i + H] for i in range(0, hidden(layer).shape[1], H)]
        y, *last = other(X, initial_state=before)
        assert_close(layer(X, hidden(layer)), (y, np.concatenate(last, axis=1)))

    def test_the_last_real_token_makes_the_state_and_none_leaves_it(self, layer):
        y, last = layer(X, hidden(layer), MASK)
        assert_close((y * MASK[:, :, None], last), in_numpy(layer, X, hidden(layer), LENGTHS))
        assert np.array_equal(last[2], hidden(layer)[2])

    def test_one_token_needs_no_loop(self, layer):
        for mask in (None, MASK[:, 2:3]):
            lengths = [1] * B if mask is None else mask[:, 0]
            y, last = layer(X[:, :1], hidden(layer), mask)
            if mask is not None:
                y = y * mask[:, :, None]
            assert_close((y, last), in_numpy(layer, X[:, :1], hidden(layer), lengths))
        traced = tf.function(layer, autograph=False).get_concrete_function(X[:, :1], hidden(layer))
        assert not any("While" in node.type for node in traced.graph.get_operations())

    def test_a_length_that_the_graph_does_not_know(self, layer):
        spec = [tf.TensorSpec((None, None, D)), tf.TensorSpec((None, hidden(layer).shape[1]))]
        call = tf.function(layer, input_signature=[*spec, tf.TensorSpec((None, None), tf.int32)], autograph=False)
        for length in (1, 2, T):
            mask = np.ones((B, length), np.int32)
            found = call(X[:, :length], hidden(layer), mask)
            assert_close(found, in_numpy(layer, X[:, :length], hidden(layer), [length] * B))

    def test_the_state_stays_float32_in_bfloat16(self):
        layer = new_layer(dtype="mixed_bfloat16", bidirectional=True)
        y, last = layer(X, HIDDEN, MASK)
        assert (y.dtype, last.dtype) == (tf.bfloat16, tf.float32)
        assert_close([last], in_numpy(layer, X, HIDDEN, LENGTHS)[1:])


class TestGradients:
    def test_equal_differences_of_the_numpy_forward(self, layer):
        width = hidden(layer).shape[1]
        upstream = numbers(4, B, T, width) * MASK[:, :, None], numbers(5, B, width)
        variables = [tf.Variable(value) for value in (X, hidden(layer))]
        sources = [*variables, *(variable.value for variable in layer.trainable_variables)]

        @tf.function(autograph=False)
        def gradient():
            with tf.GradientTape() as tape:
                found = layer(*variables, MASK)
                loss = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(found, upstream, strict=True)])
            return tape.gradient(loss, sources)

        gradients = gradient()
        names = [variable.name for variable in layer.trainable_variables]
        values = [X, hidden(layer), *(variable.numpy() for variable in layer.trainable_variables)]
        values = [value.astype(np.float64) for value in values]

        def loss(values):
            x, before, *weights = values
            found = in_numpy(layer, x, before, LENGTHS, dict(zip(names, weights, strict=True)))
            return sum(np.sum(value * up) for value, up in zip(found, upstream, strict=True))

        # Along a random direction: the loss in float64 changes by gradient times direction.
        for index, value in enumerate(values):
            direction = np.random.default_rng(index).normal(size=value.shape)
            ends = []
            for sign in (1, -1):
                moved = list(values)
                moved[index] = value + sign * 1e-5 * direction
                ends.append(loss(moved))
            expected = (ends[0] - ends[1]) / 2e-5
            assert np.sum(gradients[index] * direction) == pytest.approx(expected, rel=1e-4, abs=1e-4), index


def test_biases_start_at_0_and_recurrent_kernels_orthogonal():
    layer = GRU(H, bidirectional=True)
    layer.build((None, None, D))
    for one in layer.directions:
        kernel = one["recurrent_kernel"].numpy()
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(H), rtol=0, atol=1e-6)
        assert not np.any([one["bias"], one["recurrent_bias"]])
    assert np.abs(layer.directions[0]["kernel"] - layer.directions[1]["kernel"]).max() > 0.1


def test_config_round_trip():
    layer = new_layer(bidirectional=True, name="memory", dtype="mixed_bfloat16")
    copy = GRU.from_config(layer.get_config())
    assert (copy.units, copy.bidirectional, copy.name, copy.dtype_policy.name) == (H, True, "memory", "mixed_bfloat16")


def test_a_graph_for_conversion_has_one_node_a_layer(layer):
    def types():
        traced = tf.function(layer, autograph=False).get_concrete_function(X, hidden(layer), MASK)
        return [node.type for node in traced.graph.get_operations()]

    with as_one_operator():
        assert types().count("CudnnRNNV3") == 1
    assert "CudnnRNNV3" not in types()  # the switch is off again
