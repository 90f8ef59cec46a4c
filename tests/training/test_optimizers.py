"""Our optimizers against NumPy where Keras' are wrong, and on two replicas against one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.tolerances import tolerance
from tests.training import encoder
from tfzoo.training import TrainingConfig, checkpoints
from tfzoo.training.losses import cross_entropy
from tfzoo.training.optimizers import SGD, Adafactor, Adam, AdamW, Lamb, build_optimizer

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


def numpy_sgd(table, gradients, learning_rate=1e-2, momentum=0.9, weight_decay=0.0):
    """Sutskever et al., 2013, section 2, without the look-ahead; after Loshchilov and Hutter's decay."""
    table, move = table.astype(np.float64), 0.0
    for gradient in gradients:
        table = table - learning_rate * weight_decay * table
        move = momentum * move - learning_rate * gradient
        table = table + move
    return table


def numpy_lamb(table, gradients, learning_rate=1e-2, beta_1=0.9, beta_2=0.98, epsilon=1e-6, weight_decay=0.0):
    """You et al., 2020, algorithm 2, with the identity for the function of the weights' norm."""
    table = table.astype(np.float64)
    momentum, velocity = np.zeros_like(table), np.zeros_like(table)
    for step, gradient in enumerate(gradients, start=1):
        momentum = beta_1 * momentum + (1 - beta_1) * gradient
        velocity = beta_2 * velocity + (1 - beta_2) * gradient**2
        ratio = momentum / (1 - beta_1**step) / (np.sqrt(velocity / (1 - beta_2**step)) + epsilon)
        move = ratio + weight_decay * table
        table = table - learning_rate * np.linalg.norm(table) / np.linalg.norm(move) * move
    return table


def numpy_adafactor(table, gradients, learning_rate=1e-2, weight_decay=0.0):
    """Shazeer and Stern, 2018: algorithm 4 for a matrix, 5 for a vector, with the numbers of section 9."""

    def rms(x):
        return np.sqrt((x**2).mean())

    table = table.astype(np.float64)
    rows, columns, velocity = np.zeros((len(table), 1)), np.zeros((1, table.shape[-1])), np.zeros_like(table)
    for step, gradient in enumerate(gradients, start=1):
        table = table - learning_rate * weight_decay * table
        decay = 1 - step**-0.8
        square = gradient**2 + 1e-30
        if table.ndim == 2:
            rows = decay * rows + (1 - decay) * square.sum(axis=1, keepdims=True)
            columns = decay * columns + (1 - decay) * square.sum(axis=0, keepdims=True)
            velocity = rows @ columns / rows.sum()
        else:
            velocity = decay * velocity + (1 - decay) * square
        move = gradient / np.sqrt(velocity)
        table = table - learning_rate * max(1e-3, rms(table)) * move / max(1, rms(move))
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


LAMB = {"learning_rate": 1e-2, "beta_2": 0.98, "epsilon": 1e-6}


@pytest.mark.parametrize(
    ("ours", "keras_own", "arguments", "in_numpy"),
    [
        # Keras' Adafactor steps by at most 1 / sqrt(t); at 1e-2 that is no limit within 24 steps.
        (Adafactor, keras.optimizers.Adafactor, {"learning_rate": 1e-2}, numpy_adafactor),
        (Lamb, keras.optimizers.Lamb, LAMB, numpy_lamb),
    ],
)
def test_ours_equals_numpy_where_keras_does_not(lookups, ours, keras_own, arguments, in_numpy):
    table, gradients = lookups[0], dense(lookups)
    expected = in_numpy(table, gradients)
    np.testing.assert_allclose(
        train_embedding(ours(**arguments), lookups), expected, rtol=0, atol=tolerance("numpy_optimizer")
    )
    assert np.abs(train_embedding(keras_own(**arguments), lookups) - expected).max() > 0.01
    decayed = train_embedding(ours(**arguments, weight_decay=0.3), lookups)
    expected = in_numpy(table, gradients, weight_decay=0.3)
    np.testing.assert_allclose(decayed, expected, rtol=0, atol=tolerance("numpy_optimizer"))


def test_keras_own_lamb_and_adafactor_equal_numpy_given_the_sums_of_rows(lookups):
    """So what differs above is the rows, not what the optimizer is."""
    for keras_own, arguments, in_numpy in (
        (keras.optimizers.Adafactor, {"learning_rate": 1e-2}, numpy_adafactor),
        (keras.optimizers.Lamb, LAMB, numpy_lamb),
    ):
        variable, optimizer = keras.Variable(lookups[0]), keras_own(**arguments)
        for gradient in dense(lookups).astype(np.float32):
            optimizer.apply([tf.constant(gradient)], [variable])
        expected = in_numpy(lookups[0], dense(lookups))
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=tolerance("numpy_optimizer"))


def test_sgd_with_momentum_equals_numpy(lookups):
    ours = train_embedding(SGD(1e-2, momentum=0.9), lookups)
    expected = numpy_sgd(lookups[0], dense(lookups))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance("numpy_optimizer"))


def test_adafactor_moves_what_has_neither_gradient_nor_size():
    """A token that was not looked up and a unit that is off: 0 where Keras has 0 / 0. A new bias moves."""
    gradient = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    table = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    moved = {}
    for name, optimizer in (("ours", Adafactor(0.1)), ("keras", keras.optimizers.Adafactor(0.1))):
        matrix, bias = keras.Variable(table), keras.Variable(np.zeros(2, np.float32))
        optimizer.apply([tf.constant(gradient), tf.constant([1.0, -2.0])], [matrix, bias])
        moved[name] = matrix.numpy()
    assert np.isnan(moved["keras"]).any()
    expected = numpy_adafactor(table, [gradient.astype(np.float64)], learning_rate=0.1)
    np.testing.assert_allclose(moved["ours"], expected, rtol=0, atol=tolerance("numpy_optimizer"))
    assert (moved["ours"] == table).sum() == 3
    np.testing.assert_allclose(bias.numpy(), [-1e-4, 1e-4], rtol=1e-5)


def test_adafactor_keeps_a_row_and_a_column_of_a_matrix():
    optimizer = Adafactor(0.1)
    optimizer.build([keras.Variable(np.zeros((2, 50, 30), np.float32)), keras.Variable(np.zeros(7, np.float32))])
    shapes = [tuple(variable.shape) for variable in optimizer.variables]
    assert shapes == [(), (), (2, 50), (2, 30), (7,)]  # after the number of updates and the learning rate


def test_clipping_takes_the_norm_of_the_summed_rows_where_keras_does_not(lookups):
    gradients = dense(lookups)
    norms = np.sqrt((gradients**2).sum(axis=(1, 2), keepdims=True))
    expected = lookups[0] - 1e-2 * (gradients * np.minimum(1, 5 / norms)).sum(axis=0)
    assert norms.min() < 5 < norms.max()
    ours = train_embedding(SGD(1e-2, global_clipnorm=5.0), lookups)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance("numpy_optimizer"))
    keras_own = train_embedding(keras.optimizers.SGD(1e-2, global_clipnorm=5.0), lookups)
    assert np.abs(keras_own - expected).max() > 1e-3


MULTIPLIERS = {"block_0": 0.25, "block_1": 0.5}


def three_layers():
    """Variables of three layers, of which two have rates of their own; and gradients of order 1 for 24 steps."""
    keras.utils.set_random_seed(5)
    # block_10 is not block_1.
    layers = [
        keras.layers.Dense(3, bias_initializer="normal", name=name) for name in ("block_0", "block_1", "block_10")
    ]
    model = keras.Sequential([keras.Input((3,)), *layers], name="model")
    generator = np.random.default_rng(6)
    shapes = [variable.shape for variable in model.trainable_variables]
    return model.trainable_variables, [
        [generator.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(NUM_STEPS)
    ]


# Optimizer -> how it is made, what of it decays, and the same in NumPy.
RATED = {
    "adam": (lambda **own: Adam(**ADAM, **own), 0.0, numpy_adam),
    "adamw": (lambda **own: AdamW(weight_decay=0.3, not_decayed=["bias"], **ADAM, **own), 0.3, numpy_adam),
    "sgd": (lambda **own: SGD(1e-2, momentum=0.9, **own), 0.0, numpy_sgd),
    "lamb": (lambda **own: Lamb(weight_decay=0.3, not_decayed=["bias"], **LAMB, **own), 0.3, numpy_lamb),
    "adafactor": (
        lambda **own: Adafactor(0.1, weight_decay=0.3, not_decayed=["bias"], **own),
        0.3,
        lambda *numbers, learning_rate, weight_decay: numpy_adafactor(
            *numbers, learning_rate=10 * learning_rate, weight_decay=weight_decay
        ),
    ),
}


@pytest.mark.parametrize("clip", [None, 2.0])
@pytest.mark.parametrize("optimizer", list(RATED))
def test_each_layer_at_its_own_rate_equals_numpy(optimizer, clip):
    variables, gradients = three_layers()
    before = [variable.numpy() for variable in variables]
    factors = [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    if clip:
        norms = [np.sqrt(sum(np.square(one).sum() for one in step)) for step in gradients]
        assert clip < min(norms)
        clipped = [[one * (clip / norm) for one in step] for step, norm in zip(gradients, norms, strict=True)]
    else:
        clipped = gradients
    make, weight_decay, in_numpy = RATED[optimizer]
    built = make(rate_multipliers=MULTIPLIERS, global_clipnorm=clip)
    for step in gradients:
        built.apply([tf.constant(one) for one in step], variables)
    for index, (variable, start, factor) in enumerate(zip(variables, before, factors, strict=True)):
        mine = [step[index].astype(np.float64) for step in clipped]
        decay = weight_decay if variable.name == "kernel" else 0.0
        expected = in_numpy(start, mine, learning_rate=1e-2 * factor, weight_decay=decay)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=tolerance("numpy_optimizer"))
        assert np.abs(variable.numpy() - start).max() > 1e-4


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"blok_0": 0.5}, "`rate_multipliers` names 'blok_0', which is part of no variable's path."),
        (
            {"model/block_1": 0.5, "block_1": 1.0},
            "`rate_multipliers` has several keys for the variable 'model/block_1/",
        ),
    ],
)
def test_multipliers_fit_the_variables(multipliers, message):
    variables, _ = three_layers()
    with pytest.raises(ValueError, match=message):
        Adam(1e-2, rate_multipliers=multipliers).build(variables)


def model_after_steps(optimizer):
    """Three steps of an embedding model on global batches of 4 rows with 1 to 7 tokens."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 11, embeddings_initializer="normal", name="table"),
            keras.layers.Dense(VOCABULARY),
        ],
        name="model",
    )
    model.compile(optimizer=optimizer(), loss=cross_entropy(0.1), jit_compile=False)
    labels = np.random.default_rng(3).integers(VOCABULARY, size=(12, 7)).astype(np.int32)
    weights = (np.arange(7) < np.tile([[1], [2], [5], [7]], (3, 1))).astype(np.float32)
    model.fit(labels, labels, sample_weight=weights, batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: SGD(1.0, global_clipnorm=0.05),
        lambda: AdamW(0.1, weight_decay=0.1, epsilon=1e-3, global_clipnorm=0.05),
        lambda: AdamW(0.1, weight_decay=0.1, epsilon=1e-3, rate_multipliers={"table": 0.5}, not_decayed=["bias"]),
        lambda: Lamb(0.1, weight_decay=0.1, epsilon=1e-3, global_clipnorm=0.05),
        lambda: Adafactor(0.1, epsilon_1=1e-6, global_clipnorm=0.05),
    ],
    ids=["SGD", "AdamW", "AdamW by layer", "LAMB", "Adafactor"],
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
    ("optimizer", "arguments"),
    [
        (Adam, {"beta_1": 0.8, "rate_multipliers": {"model/block_0": 0.5}}),
        (AdamW, {"weight_decay": 0.25, "not_decayed": ["bias"]}),
        (SGD, {"momentum": 0.75}),
        (Lamb, {"beta_2": 0.75, "not_decayed": ["bias"]}),
        (Adafactor, {"decay_exponent": -0.7, "epsilon_2": 0.5}),
    ],
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
    layers = [keras.layers.Embedding(VOCABULARY, DIM, name="table"), keras.layers.Dense(DIM, name="dense")]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers], name="model")
    optimizer = build_optimizer(TrainingConfig(**CONFIG, weight_decay=0.5), {"table": 0.125})
    model.compile(optimizer, cross_entropy(0.1), jit_compile=False)
    labels = np.array([[1, 2, 1]], np.int32) % DIM
    model.fit(labels, labels, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is AdamW
    assert type(again.loss) is type(model.loss)
    for one, two in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    for each in (model, again):
        each.fit(labels, labels, verbose=0)
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_build_optimizer_hands_the_config_down():
    optimizer = build_optimizer(TrainingConfig(**CONFIG, beta_2=0.7, epsilon=1e-3, clip_norm=2.0))
    assert type(optimizer) is Adam
    assert (optimizer.beta_2, optimizer.epsilon, optimizer.global_clipnorm) == (0.7, 1e-3, 2.0)
    assert float(optimizer.learning_rate) == pytest.approx(0.5 / 8)
    assert build_optimizer(TrainingConfig(**CONFIG, clip_norm=0.0)).global_clipnorm is None
    lamb = build_optimizer(TrainingConfig(**CONFIG, optimizer="lamb", beta_2=0.7, weight_decay=0.1))
    assert (type(lamb), lamb.beta_2, lamb.weight_decay, lamb.not_decayed[0]) == (Lamb, 0.7, 0.1, "bias")
    sgd = build_optimizer(TrainingConfig(**CONFIG, optimizer="sgd", momentum=0.7))
    assert (type(sgd), sgd.momentum, sgd.weight_decay) == (SGD, 0.7, None)
    assert type(build_optimizer(TrainingConfig(**CONFIG, optimizer="adafactor"))) is Adafactor


def test_the_public_name_is_that_of_the_losses():
    assert tfzoo.optimizers.Adafactor is Adafactor


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


def compiled(seed, dtype="float32", **changes):
    """A tiny encoder with a built optimizer of its own."""
    model = encoder.new_model("text_classification", seed, dtype=dtype)
    model.compile(build_optimizer(TrainingConfig(**CONFIG, **changes)))
    model.optimizer.build(model.trainable_variables)
    return model


def random_gradients(model, step, factor=1.0):
    generator = np.random.default_rng(step)
    return [tf.constant(factor * generator.normal(size=v.shape), "float32") for v in model.trainable_variables]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "lamb"},
        {"optimizer": "adafactor"},
        {"dtype": "mixed_float16"},
    ],
)
def test_a_checkpoint_holds_all_that_the_next_update_needs(tmp_path, changes):
    one, two = (compiled(seed, ema_decay=0.9, **changes) for seed in (1, 2))
    for step in range(2):
        one.optimizer.apply(random_gradients(one, step), one.trainable_variables)
    checkpoints.restore(two, checkpoints.save(one, tmp_path, [{"step": 2}]))
    for model in (one, two):
        model.optimizer.apply(random_gradients(model, 2), model.trainable_variables)
    mine, theirs = (model.variables + model.optimizer.variables for model in (one, two))
    for first, second in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=first.path)


def test_scaled_gradients_are_clipped_when_they_are_unscaled():
    exact, half = compiled(1, clip_norm=0.5), compiled(1, "mixed_float16", clip_norm=0.5)
    scale = float(half.optimizer.dynamic_scale)
    exact.optimizer.apply(random_gradients(exact, 0), exact.trainable_variables)
    half.optimizer.apply(random_gradients(half, 0, scale), half.trainable_variables)
    for mine, theirs in zip(half.get_weights(), exact.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance("numpy_optimizer"))


def test_weight_decay_spares_biases_and_normalizations():
    """By a variable's own name: what its layers are called does not matter."""
    layers = [keras.layers.Dense(3, name="beta_bias"), keras.layers.LayerNormalization(name="norm")]
    model = keras.Sequential([keras.Input((2,)), *layers], name="gamma")
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    optimizer = build_optimizer(TrainingConfig(**CONFIG, weight_decay=0.5))
    optimizer.apply([tf.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    after = {variable.path: float(variable.numpy().min()) for variable in model.trainable_variables}
    decayed = pytest.approx(1 - 0.5 * 0.5 / 8, rel=1e-6)
    others = dict.fromkeys(("gamma/beta_bias/bias", "gamma/norm/gamma", "gamma/norm/beta"), 1.0)
    assert after == {"gamma/beta_bias/kernel": decayed, **others}


def test_weight_decay_is_of_embeddings_too():
    embedding = keras.layers.Embedding(5, 3, embeddings_initializer="ones")
    embedding.build()
    optimizer = build_optimizer(TrainingConfig(**CONFIG, weight_decay=0.5))
    optimizer.apply([tf.zeros((5, 3))], embedding.trainable_weights)
    assert embedding.get_weights()[0].max() < 1
