"""The LSTM layer against NumPy and an explicit loop: values, gradients, padding, dropped weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.references.lstm_lm import lstm
from tests.tolerances import tolerance
from tfzoo.layers.recurrent import LSTM, CarriedState, as_one_operator

B, T, D, H = 4, 7, 5, 3
LENGTHS = [7, 3, 0, 1]
MASK = (np.arange(T) < np.array(LENGTHS)[:, None]).astype(np.int32)


def new_layer(**options):
    """A layer with random weights everywhere; equal ones at each call."""
    layer = LSTM(H, **options)
    layer.build((None, None, D))
    generator = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(0, 0.7, variable.shape))
    return layer


@pytest.fixture
def layer():
    return new_layer()


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, HIDDEN, CELL = numbers(1, B, T, D), numbers(2, B, H), numbers(3, B, H)


def in_numpy(layer, x, hidden, cell, lengths):
    """What the layer returns; zeros at padding."""
    weights = [variable.numpy().astype(np.float64) for variable in (layer.kernel, layer.recurrent_kernel, layer.bias)]
    y, last_hidden, last_cell = np.zeros((*x.shape[:2], H)), np.zeros((len(x), H)), np.zeros((len(x), H))
    for row, length in enumerate(lengths):
        states, last_hidden[row], last_cell[row] = lstm(list(x[row, :length]), *weights, hidden[row], cell[row])
        y[row, :length] = states or 0
    return y, last_hidden, last_cell


def assert_close(found, expected):
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=tolerance("numpy_parity"))


class TestValues:
    @pytest.mark.parametrize("graph", [False, True])
    def test_equals_numpy(self, layer, graph):
        call = tf.function(layer, autograph=False) if graph else layer
        assert_close(call(X, HIDDEN, CELL), in_numpy(layer, X, HIDDEN, CELL, [T] * B))

    def test_equals_keras_with_the_same_weights(self, layer):
        other = keras.layers.LSTM(H, return_sequences=True, return_state=True)
        other.build((None, None, D))
        other.set_weights([layer.kernel, layer.recurrent_kernel, layer.bias])
        assert_close(layer(X, HIDDEN, CELL), other(X, initial_state=[HIDDEN, CELL]))

    def test_the_last_real_token_makes_the_state_and_none_leaves_it(self, layer):
        y, hidden, cell = layer(X, HIDDEN, CELL, MASK)
        assert_close((y * MASK[:, :, None], hidden, cell), in_numpy(layer, X, HIDDEN, CELL, LENGTHS))
        assert np.array_equal(hidden[2], HIDDEN[2])
        assert np.array_equal(cell[2], CELL[2])

    def test_one_token_needs_no_loop(self, layer):
        for mask in (None, MASK[:, 2:3]):
            lengths = [1] * B if mask is None else mask[:, 0]
            y, hidden, cell = layer(X[:, :1], HIDDEN, CELL, mask)
            if mask is not None:
                y = y * mask[:, :, None]
            assert_close((y, hidden, cell), in_numpy(layer, X[:, :1], HIDDEN, CELL, lengths))
        traced = tf.function(layer, autograph=False).get_concrete_function(X[:, :1], HIDDEN, CELL)
        assert not any("While" in node.type for node in traced.graph.get_operations())

    def test_a_length_that_the_graph_does_not_know(self, layer):
        spec = [tf.TensorSpec((None, None, D)), tf.TensorSpec((None, H)), tf.TensorSpec((None, H))]
        call = tf.function(layer, input_signature=[*spec, tf.TensorSpec((None, None), tf.int32)], autograph=False)
        for length in (1, 2, T):
            mask = np.ones((B, length), np.int32)
            assert_close(
                call(X[:, :length], HIDDEN, CELL, mask), in_numpy(layer, X[:, :length], HIDDEN, CELL, [length] * B)
            )

    def test_states_stay_float32_in_bfloat16(self):
        layer = new_layer(dtype="mixed_bfloat16")
        y, hidden, cell = layer(X, HIDDEN, CELL, MASK)
        assert (y.dtype, hidden.dtype, cell.dtype) == (tf.bfloat16, tf.float32, tf.float32)
        assert_close((hidden, cell), in_numpy(layer, X, HIDDEN, CELL, LENGTHS)[1:])


class TestGradients:
    def test_equal_differences_of_the_numpy_forward(self, layer):
        upstream = numbers(4, B, T, H) * MASK[:, :, None], numbers(5, B, H), numbers(6, B, H)
        variables = [tf.Variable(value) for value in (X, HIDDEN, CELL)]
        sources = [*variables, *(variable.value for variable in layer.trainable_variables)]

        @tf.function(autograph=False)
        def gradient():
            with tf.GradientTape() as tape:
                found = layer(*variables, MASK)
                loss = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(found, upstream, strict=True)])
            return tape.gradient(loss, sources)

        gradients = gradient()

        # Along a random direction: the loss in float64 changes by gradient times direction.
        kernel, recurrent_kernel, bias = (value.numpy().astype(np.float64) for value in layer.trainable_variables)
        values = [value.astype(np.float64) for value in (X, HIDDEN, CELL)] + [kernel, recurrent_kernel, bias]

        def loss(values):
            x, hidden, cell, *weights = values
            total = 0.0
            for row, length in enumerate(LENGTHS):
                states, last, last_cell = lstm(list(x[row, :length]), *weights, hidden[row], cell[row])
                total += sum(np.dot(state, up) for state, up in zip(states, upstream[0][row], strict=False))
                total += np.dot(last, upstream[1][row]) + np.dot(last_cell, upstream[2][row])
            return total

        for index, value in enumerate(values):
            direction = np.random.default_rng(index).normal(size=value.shape)
            ends = []
            for sign in (1, -1):
                moved = list(values)
                moved[index] = value + sign * 1e-5 * direction
                ends.append(loss(moved))
            expected = (ends[0] - ends[1]) / 2e-5
            assert np.sum(gradients[index] * direction) == pytest.approx(expected, rel=1e-4, abs=1e-4), index

    def test_padding_and_rows_without_tokens_have_none(self, layer):
        x, hidden = tf.Variable(X), tf.Variable(HIDDEN)
        with tf.GradientTape() as tape:
            _, last, _ = layer(x, hidden, CELL, MASK)
            loss = tf.reduce_sum(last)
        to_x, to_hidden = tape.gradient(loss, [x, hidden])
        assert np.array_equal(np.any(to_x != 0, axis=2), MASK)
        assert to_hidden[2].numpy().tolist() == [1.0] * H


class TestStart:
    def test_only_the_forget_gate_has_a_bias(self):
        layer = LSTM(H)
        layer.build((None, None, D))
        assert layer.bias.numpy().tolist() == [0.0] * H + [1.0] * H + [0.0] * 2 * H

    def test_the_recurrent_kernel_is_orthogonal(self):
        layer = LSTM(H)
        layer.build((None, None, D))
        kernel = layer.recurrent_kernel.numpy()
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(H), rtol=0, atol=1e-6)


class TestWeightDrop:
    def test_one_mask_for_all_tokens_and_rows(self):
        layer = new_layer(weight_drop=0.4)
        layer.seed_generator.state.assign([3, 1])
        found = layer(X, HIDDEN, CELL, training=True)
        layer.seed_generator.state.assign([3, 1])
        dropped = keras.random.dropout(layer.recurrent_kernel, 0.4, seed=layer.seed_generator).numpy()
        assert 0 < np.sum(dropped == 0) < dropped.size
        other = new_layer()
        other.recurrent_kernel.assign(dropped)
        assert_close(found, other(X, HIDDEN, CELL))

    def test_another_call_draws_another_mask_and_prediction_draws_none(self):
        layer = new_layer(weight_drop=0.4)
        one, two = (layer(X, HIDDEN, CELL, training=True)[0] for _ in range(2))
        assert np.abs(one - two).max() > 1e-3
        before = layer.seed_generator.state.numpy()
        assert_close(layer(X, HIDDEN, CELL), new_layer()(X, HIDDEN, CELL))
        assert np.array_equal(layer.seed_generator.state, before)

    def test_a_dropped_weight_gets_no_gradient(self):
        layer = new_layer(weight_drop=0.4)
        state = layer.seed_generator.state.numpy()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(X, HIDDEN, CELL, training=True)[0] ** 2)
        gradient = tape.gradient(loss, layer.recurrent_kernel.value).numpy()
        layer.seed_generator.state.assign(state)
        dropped = keras.random.dropout(layer.recurrent_kernel, 0.4, seed=layer.seed_generator).numpy() == 0
        assert np.array_equal(gradient == 0, dropped)


def test_config_round_trip():
    layer = new_layer(weight_drop=0.25, name="memory", dtype="mixed_bfloat16")
    copy = LSTM.from_config(layer.get_config())
    assert (copy.units, copy.weight_drop, copy.name, copy.dtype_policy.name) == (H, 0.25, "memory", "mixed_bfloat16")


def test_a_graph_for_conversion_has_one_node_a_layer(layer):
    def types():
        traced = tf.function(layer, autograph=False).get_concrete_function(X, HIDDEN, CELL, MASK)
        return [node.type for node in traced.graph.get_operations()]

    with as_one_operator():
        assert types().count("CudnnRNNV3") == 1
    assert "CudnnRNNV3" not in types()  # the switch is off again


class TestCarriedState:
    def test_is_among_the_variables_and_not_among_the_weights(self):
        carried = CarriedState(2, [3, 5])
        carried.build()
        assert [tuple(variable.shape) for variable in carried.variables] == [(2, 3), (2, 3), (2, 5), (2, 5)]
        assert carried.weights == carried.trainable_variables == []

    def test_a_row_that_does_not_go_on_starts_from_zeros(self):
        carried = CarriedState(2, [3])
        carried.build()
        carried.write({"hidden_0": np.full((2, 3), 5.0), "cell_0": np.full((2, 3), 7.0)})
        state = carried.read(np.array([0, 1], np.int32))
        assert state["hidden_0"].numpy().tolist() == [[0.0] * 3, [5.0] * 3]
        assert state["cell_0"].numpy().tolist() == [[0.0] * 3, [7.0] * 3]

    def test_several_devices_are_refused(self, two_cpus):
        with (
            tf.distribute.MirroredStrategy(two_cpus).scope(),
            pytest.raises(ValueError, match=r"`carried_batch_size` needs a single device; received .*=2 on 2 devices"),
        ):
            CarriedState(2, [3])
