"""Our optimizers against NumPy where Keras' are wrong, and on two replicas against one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.training import TrainingConfig
from tfzoo.training.losses import cross_entropy
from tfzoo.training.optimizers import SGD, Adam, AdamW, build_optimizer

VOCABULARY, DIM, NUM_STEPS = 7, 3, 24


def numpy_adam(table, gradients, learning_rate=1e-2, beta_1=0.9, beta_2=0.98, epsilon=1e-9, weight_decay=0.0):
    """Kingma and Ba, 2015, in its efficient form before section 2.1, after Loshchilov and Hutter's decay."""
    table = table.astype(np.float64)
    momentum, velocity = np.zeros_like(table), np.zeros_like(table)
    for step, gradient in enumerate(gradients, start=1):
        table = table - learning_rate * weight_decay * table
        momentum = beta_1 * momentum + (1 - beta_1) * gradient
        velocity = beta_2 * velocity + (1 - beta_2) * gradient**2
        rate = learning_rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        table = table - rate * momentum / (np.sqrt(velocity) + epsilon)
    return table


@pytest.fixture(scope="module")
def lookups():
    """An embedding table; token ids of each step, 5 of 7 tokens, so with duplicates; and a gradient for each lookup."""
    generator = np.random.default_rng(11)
    table = generator.normal(size=(VOCABULARY, DIM)).astype(np.float32)
    token_ids = generator.integers(5, size=(NUM_STEPS, 13)).astype(np.int32)
    rows = generator.normal(size=(NUM_STEPS, 13, DIM)).astype(np.float32)
    return table, token_ids, rows


def dense(lookups):
    table, token_ids, rows = lookups
    gradients = np.zeros((NUM_STEPS, *table.shape))
    for step in range(NUM_STEPS):
        np.add.at(gradients[step], token_ids[step], rows[step])
    return gradients


def train_embedding(optimizer, lookups):
    table, token_ids, rows = lookups
    embedding = keras.layers.Embedding(VOCABULARY, DIM)
    embedding.build()
    embedding.set_weights([table])
    for ids, row in zip(token_ids, rows, strict=True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(embedding(ids) * row)
        optimizer.apply(tape.gradient(loss, embedding.trainable_weights), embedding.trainable_weights)
    return embedding.embeddings.numpy()


ADAM = {"learning_rate": 1e-2, "beta_2": 0.98, "epsilon": 1e-9}


def test_adam_equals_numpy_where_keras_does_not(lookups):
    expected = numpy_adam(lookups[0], dense(lookups))
    ours = train_embedding(Adam(**ADAM), lookups)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance("numpy_optimizer"))
    keras_own = train_embedding(keras.optimizers.Adam(**ADAM), lookups)
    assert np.abs(keras_own - expected).max() > 0.01


def test_adamw_equals_numpy(lookups):
    expected = numpy_adam(lookups[0], dense(lookups), weight_decay=0.3)
    ours = train_embedding(AdamW(weight_decay=0.3, **ADAM), lookups)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance("numpy_optimizer"))


def test_sgd_with_momentum_equals_numpy(lookups):
    expected, move = lookups[0].astype(np.float64), 0.0
    for gradient in dense(lookups):
        move = 0.9 * move - 1e-2 * gradient
        expected = expected + move
    ours = train_embedding(SGD(1e-2, momentum=0.9), lookups)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance("numpy_optimizer"))


def test_clipping_takes_the_norm_of_the_summed_rows(lookups):
    gradients = dense(lookups)
    norms = np.sqrt((gradients**2).sum(axis=(1, 2), keepdims=True))
    expected = lookups[0] - 1e-2 * (gradients * np.minimum(1, 5 / norms)).sum(axis=0)
    assert norms.min() < 5 < norms.max()
    ours = train_embedding(SGD(1e-2, global_clipnorm=5.0), lookups)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance("numpy_optimizer"))


def model_after_steps(optimizer):
    """Three steps of an embedding model on global batches of 4 rows with 1 to 7 tokens."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 11, embeddings_initializer="normal"),
            keras.layers.Dense(VOCABULARY),
        ]
    )
    model.compile(optimizer=optimizer(), loss=cross_entropy(0.1), jit_compile=False)
    labels = np.random.default_rng(3).integers(VOCABULARY, size=(12, 7)).astype(np.int32)
    weights = (np.arange(7) < np.tile([[1], [2], [5], [7]], (3, 1))).astype(np.float32)
    model.fit(labels, labels, sample_weight=weights, batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize(
    "optimizer",
    [lambda: SGD(1.0, global_clipnorm=0.05), lambda: AdamW(0.1, weight_decay=0.1, epsilon=1e-3, global_clipnorm=0.05)],
    ids=["SGD", "AdamW"],
)
def test_clipped_steps_on_two_replicas_equal_one_device(mirrored, optimizer):
    one_device = model_after_steps(optimizer)
    with mirrored.scope():
        two_replicas = model_after_steps(optimizer)
    for one, two in zip(one_device, two_replicas, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance("two_replicas"))


def test_keras_own_clipping_differs_on_two_replicas(mirrored):
    """Without this the test above would prove nothing about the order of clipping and adding up."""
    one_device = model_after_steps(lambda: SGD(1.0, global_clipnorm=0.05))
    with mirrored.scope():
        keras_own = model_after_steps(lambda: keras.optimizers.SGD(1.0, global_clipnorm=0.05))
    assert max(np.abs(one - two).max() for one, two in zip(one_device, keras_own, strict=True)) > 1e-3


@pytest.mark.parametrize(
    ("optimizer", "arguments"), [(Adam, {"beta_1": 0.8}), (AdamW, {"weight_decay": 0.25}), (SGD, {"momentum": 0.75})]
)
def test_serialization(optimizer, arguments):
    one = optimizer(0.5, global_clipnorm=2.0, **arguments)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(one))
    assert type(again) is optimizer
    assert again.get_config() == one.get_config()


CONFIG = {"num_steps": 40, "checkpoint_steps": 10, "learning_rate": 0.5, "warmup_steps": 8}


# Keras 3.15 turns its variables into arrays without NumPy 2's `copy` argument.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_keras_file_round_trip(tmp_path):
    model = keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(VOCABULARY, DIM)])
    model.compile(build_optimizer(TrainingConfig(**CONFIG)), cross_entropy(0.1), jit_compile=False)
    labels = np.array([[1, 2, 1]], np.int32) % DIM
    model.fit(labels, labels, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is Adam
    assert type(again.loss) is type(model.loss)
    for one, two in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    for each in (model, again):
        each.fit(labels, labels, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])


def test_build_optimizer_hands_the_config_down():
    optimizer = build_optimizer(TrainingConfig(**CONFIG, beta_2=0.7, epsilon=1e-3, clip_norm=2.0))
    assert type(optimizer) is Adam
    assert (optimizer.beta_2, optimizer.epsilon, optimizer.global_clipnorm) == (0.7, 1e-3, 2.0)
    assert float(optimizer.learning_rate) == pytest.approx(0.5 / 8)
    assert build_optimizer(TrainingConfig(**CONFIG, clip_norm=0.0)).global_clipnorm is None


def test_variable_paths_are_unique_and_the_same_each_time():
    def paths(**changes):
        layers = [keras.layers.Embedding(5, 3, name="embedding"), keras.layers.Dense(3, name="dense")]
        model = keras.Sequential(layers, name="model")
        model.build((None, 4))
        optimizer = build_optimizer(TrainingConfig(**CONFIG, **changes))
        optimizer.build(model.trainable_variables)
        return [variable.path for variable in optimizer.variables]

    first = paths()
    assert len(set(first)) == len(first) == 7
    assert "adam/model_dense_kernel_velocity" in first
    assert paths() == first
    assert paths(weight_decay=0.1) == first


def test_weight_decay_spares_biases():
    dense = keras.layers.Dense(3, bias_initializer="ones", name="dense")
    dense.build((None, 2))
    before = dense.get_weights()
    optimizer = build_optimizer(TrainingConfig(**CONFIG, weight_decay=0.5))
    optimizer.apply([tf.zeros(v.shape) for v in dense.trainable_weights], dense.trainable_weights)
    kernel, bias = dense.get_weights()
    np.testing.assert_array_equal(bias, before[1])
    np.testing.assert_allclose(kernel, before[0] * (1 - 0.5 * 0.5 / 8), rtol=1e-6)
