import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.dropout import Dropout


class TestDropout:
    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
    def test_drops_its_share_and_keeps_the_mean(self, rate):
        y = Dropout(rate, seed=3)(tf.ones((301, 997)), training=True).numpy()
        # The deviation of a share of 300,097 draws is 0.0009 at most.
        assert np.mean(y == 0) == pytest.approx(rate, abs=0.005)
        np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)

    def test_each_half_of_a_word_is_a_draw_of_its_own(self):
        y = Dropout(0.5, seed=3)(tf.ones((2 * 40_001,)), training=True).numpy()
        both = np.mean((y[::2] == 0) & (y[1::2] == 0))
        assert both == pytest.approx(0.25, abs=0.02)

    def test_each_call_draws_anew_and_equal_seeds_draw_alike(self):
        first, second = Dropout(0.5, seed=3), Dropout(0.5, seed=3)
        x = tf.ones((7, 37))
        drawn = [first(x, training=True).numpy() for _ in range(2)]
        assert not np.array_equal(*drawn)
        np.testing.assert_array_equal(drawn, [second(x, training=True).numpy() for _ in range(2)])

    @pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True), (1e-6, True)])
    def test_leaves_the_input_alone(self, rate, training):
        x = tf.random.stateless_normal((3, 7), [1, 2])
        np.testing.assert_array_equal(Dropout(rate)(x, training=training), x)

    def test_a_rate_of_1_leaves_nothing(self):
        assert not np.any(Dropout(1.0)(tf.ones((3, 7)), training=True))

    def test_the_gradient_falls_on_what_is_kept(self):
        x = tf.ones((3, 7))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = Dropout(0.25, seed=5)(x, training=True)
        np.testing.assert_array_equal(tape.gradient(y, x), y)

    def test_a_mask_may_be_shared_along_an_axis(self):
        y = Dropout(0.5, noise_shape=(None, 1, None), seed=3)(tf.ones((5, 7, 37)), training=True).numpy()
        np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
        assert 0 < np.mean(y[:, 0] == 0) < 1

    def test_in_half_precision(self):
        layer = Dropout(0.5, seed=3, dtype="mixed_bfloat16")
        assert layer(tf.ones((3, 7), "bfloat16"), training=True).dtype == "bfloat16"

    def test_replicas_draw_masks_of_their_own(self):
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            layer = Dropout(0.5, seed=3)
            layer.build((None, 37))
        run = tf.function(lambda: strategy.run(lambda: layer(tf.ones((7, 37)), training=True)))
        first, second = strategy.experimental_local_results(run())
        assert not np.array_equal(first, second)

    def test_comes_back_from_its_config(self):
        layer = Dropout(0.3, noise_shape=(None, 1), seed=4, name="dropped")
        again = keras.layers.deserialize(keras.layers.serialize(layer))
        assert type(again) is Dropout
        assert again.get_config() == layer.get_config()
