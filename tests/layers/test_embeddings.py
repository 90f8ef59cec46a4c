"""Embeddings: the docstrings' examples, and gradients where ids repeat."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.layers.embeddings import PositionEmbedding, TokenEmbedding, sinusoidal_table

IDS = np.array([[1, 4, 1, 1], [4, 0, 1, 2]], np.int32)  # 3 is missing, 1 occurs four times


@pytest.fixture
def embedding():
    layer = TokenEmbedding(5, 6)
    layer.build()
    return layer


def test_sinusoidal_table_example():
    table = sinusoidal_table(2, 4)
    assert table.dtype == np.float32
    assert np.array_equal(table.round(4), np.float32([[0.0, 1.0, 0.0, 1.0], [0.8415, 0.5403, 0.01, 1.0]]))


def test_sinusoidal_table_follows_the_formula():
    table = sinusoidal_table(700, 6)
    for position, column in [(0, 0), (699, 0), (699, 1), (13, 4), (13, 5)]:
        angle = position / 10000 ** (2 * (column // 2) / 6)
        expected = np.cos(angle) if column % 2 else np.sin(angle)
        assert table[position, column] == pytest.approx(expected, abs=1e-7)


class TestTokenEmbedding:
    def test_looks_rows_up_and_scales_them(self, embedding):
        table = embedding.table.numpy()
        np.testing.assert_allclose(embedding(IDS), table[IDS] * 6**0.5, rtol=1e-6)

    def test_without_scale_a_vector_is_a_row(self):
        keras.utils.set_random_seed(3)
        layer = TokenEmbedding(500, 64, scale=False, stddev=0.1)
        layer.build()
        np.testing.assert_array_equal(layer(IDS), layer.table.numpy()[IDS])
        assert np.std(layer.table) == pytest.approx(0.1, rel=0.02)

    def test_scores_against_the_same_table(self, embedding):
        x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
        logits = embedding.logits(x)
        assert logits.shape == (2, 3, 5)
        expected = np.einsum("btd,vd->btv", x.astype(np.float64), embedding.table.numpy())
        np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance("numpy_parity"))

    def test_starts_at_unit_variance(self):
        keras.utils.set_random_seed(3)
        layer = TokenEmbedding(500, 64)
        layer.build()
        # 32,000 numbers: their standard deviation is within 1/250 of 1, four times out of five hundred.
        assert np.std(layer(np.arange(500)[None])) == pytest.approx(1, abs=0.02)

    @pytest.mark.parametrize("graph", [False, True])
    def test_the_gradient_is_dense_and_adds_repeated_ids(self, embedding, graph):
        upstream = np.random.default_rng(1).normal(size=(2, 4, 6)).astype(np.float32)

        def gradient():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(embedding(IDS) * upstream)
            return tape.gradient(loss, embedding.table.value)

        result = tf.function(gradient)() if graph else gradient()
        assert isinstance(result, tf.Tensor)  # not IndexedSlices
        expected = np.zeros((5, 6))
        for row, column in np.ndindex(IDS.shape):
            expected[IDS[row, column]] += upstream[row, column] * 6**0.5
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance("numpy_parity"))

    def test_the_tied_gradient_adds_up_both_uses(self, embedding):
        upstream = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(embedding.logits(embedding(IDS)) * upstream)
        table = embedding.table.numpy().astype(np.float64)
        expected = np.zeros((5, 6))
        for place in np.ndindex(IDS.shape):
            vector = table[IDS[place]] * 6**0.5
            expected += np.outer(upstream[place], vector)
            expected[IDS[place]] += upstream[place] @ table * 6**0.5
        np.testing.assert_allclose(
            tape.gradient(loss, embedding.table.value), expected, rtol=0, atol=tolerance("numpy_parity")
        )

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_the_gradient_of_a_frequent_token_is_summed_in_float32(self, policy):
        layer = TokenEmbedding(5, 4, dtype=policy)
        layer.build()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(layer(np.ones((8, 512), np.int32)), tf.float32))
        gradient = tape.gradient(loss, layer.table.value)
        assert gradient.dtype == tf.float32
        assert gradient[1].numpy().tolist() == [8 * 512 * 2.0] * 4  # sqrt(4) each; in bfloat16 it stops at 512

    def test_ids_may_come_as_floats(self, embedding):
        # As in the symbolic build of Keras' fit under a tf.distribute strategy.
        assert np.array_equal(embedding(IDS.astype(np.float32)), embedding(IDS))

    @pytest.mark.parametrize("token_id", [5, -1])
    def test_an_id_out_of_range_is_refused_on_a_cpu(self, embedding, token_id):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{token_id} is not in"):
            embedding(np.array([[token_id]], np.int32))


class TestPositionEmbedding:
    @pytest.mark.parametrize("learned", [False, True])
    def test_adds_a_row_for_each_position_from_the_offset(self, learned):
        layer = PositionEmbedding(9, 6, learned=learned)
        x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
        layer.build()
        table = layer.table.numpy() if learned else sinusoidal_table(9, 6)
        assert len(layer.trainable_variables) == learned
        np.testing.assert_array_equal(layer(x), x + table[:4])
        np.testing.assert_array_equal(layer(x, offset=tf.constant(5)), x + table[5:])

    def test_adds_a_row_for_each_given_position(self):
        layer = PositionEmbedding(9, 6, learned=True)
        x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
        layer.build()
        positions = np.array([[0, 1, 2, 3], [8, 0, 7, 7]])
        np.testing.assert_array_equal(layer(x, positions=positions), x + layer.table.numpy()[positions])

    def test_the_learned_gradient_is_dense(self):
        layer = PositionEmbedding(9, 6, learned=True)
        layer.build()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(np.zeros((2, 4, 6), np.float32), offset=3))
        gradient = tape.gradient(loss, layer.table.value)
        assert isinstance(gradient, tf.Tensor)
        assert gradient[:, 0].numpy().tolist() == [0, 0, 0, 2, 2, 2, 2, 0, 0]

    def test_a_sequence_longer_than_the_table_is_refused(self):
        layer = PositionEmbedding(9, 6)
        assert layer(np.zeros((1, 9, 6), np.float32)).shape == (1, 9, 6)
        with pytest.raises(ValueError, match="received 10 tokens, max_sequence_length=9. Shorten the input"):
            layer(np.zeros((1, 10, 6), np.float32))
