"""The loss against NumPy in float64, and its one meaning on one device and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.tolerances import tolerance
from tfzoo.training.losses import BinaryCrossEntropy, CrossEntropy, InBatchContrastive, SquaredError, cross_entropy
from tfzoo.training.metrics import Accuracy, LabelAccuracy, PartnerAccuracy, Pearson

BATCH, LENGTH, VOCABULARY = 4, 7, 37


def numpy_cross_entropy(labels, logits, weights, label_smoothing):
    """The definition: mean over weights of -sum(q * log(p)), q = (1 - e) * one_hot + e / V, in float64."""
    logits = np.asarray(logits, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    targets = (1 - label_smoothing) * np.eye(logits.shape[-1])[labels] + label_smoothing / logits.shape[-1]
    return (-(targets * np.log(probabilities)).sum(axis=-1) * weights).sum() / weights.sum()


@pytest.fixture
def batch():
    """Labels, logits, and weights with 1 to 7 real tokens a row: the first half has 3, the second 12."""
    generator = np.random.default_rng(3)
    labels = generator.integers(VOCABULARY, size=(BATCH, LENGTH)).astype(np.int32)
    logits = (3 * generator.normal(size=(BATCH, LENGTH, VOCABULARY))).astype(np.float32)
    weights = (np.arange(LENGTH) < np.array([[1], [2], [5], [7]])).astype(np.float32)
    return labels, logits, weights


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_numpy(batch, label_smoothing, weighted):
    labels, logits, weights = batch
    expected = numpy_cross_entropy(labels, logits, weights if weighted else np.ones_like(weights), label_smoothing)
    loss = cross_entropy(label_smoothing)(labels, tf.constant(logits), weights if weighted else None)
    assert loss.dtype == "float32"
    assert float(loss) == pytest.approx(expected, rel=tolerance("numpy_loss"))


def test_padding_changes_nothing(batch):
    labels, logits, weights = batch
    wide = [np.pad(array, [(0, 0), (0, 5)] + [(0, 0)] * (array.ndim - 2)) for array in batch]
    loss = cross_entropy(0.1)
    assert float(loss(*wide)) == pytest.approx(float(loss(labels, logits, weights)), rel=tolerance("numpy_loss"))


def test_only_padding_is_zero(batch):
    labels, logits, weights = batch
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(0.1)(labels, logits, 0 * weights)
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros(logits.shape))


def test_half_precision_logits_are_computed_in_float32(batch):
    labels, logits, weights = batch
    half = tf.cast(logits, "bfloat16")
    loss = cross_entropy(0.1)(labels, half, weights)
    assert loss.dtype == "float32"
    expected = numpy_cross_entropy(labels, tf.cast(half, "float64").numpy(), weights, 0.1)
    assert float(loss) == pytest.approx(expected, rel=tolerance("numpy_loss"))


def test_keras_mask_counts_as_padding(batch):
    labels, logits, weights = batch
    masked = tf.constant(logits)
    masked._keras_mask = tf.constant(weights) > 0
    loss = cross_entropy(0.1)
    assert float(loss(labels, masked)) == float(loss(labels, logits, weights))


def test_a_weight_per_sequence_is_refused(batch):
    labels, logits, weights = batch
    with pytest.raises(ValueError, match=r"one weight per token.*sample_weight of shape \(4,\), y_true of shape"):
        cross_entropy()(labels, logits, weights[:, 0])


def test_label_smoothing_out_of_range():
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\); received label_smoothing=1.0"):
        cross_entropy(1.0)


def test_serialization(batch):
    config = keras.saving.serialize_keras_object(cross_entropy(0.25))
    loss = keras.saving.deserialize_keras_object(config)
    assert loss.get_config() == {"label_smoothing": 0.25, "name": "cross_entropy"}
    assert float(loss(*batch)) == float(cross_entropy(0.25)(*batch))


def token_model():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 11, embeddings_initializer="normal"),
            keras.layers.Dense(VOCABULARY),
        ]
    )


def test_plain_compile_and_fit(batch):
    labels, _, weights = batch
    model = token_model()
    expected = numpy_cross_entropy(labels, model(labels).numpy(), weights, 0.1)
    model.compile(optimizer="sgd", loss=tfzoo.losses.cross_entropy(label_smoothing=0.1), jit_compile=False)
    history = model.fit(labels, labels, sample_weight=weights, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=tolerance("numpy_loss"))
    assert history.history["loss"][1] < history.history["loss"][0]


def sgd_epoch(labels, weights):
    """One SGD step for each 4 rows; returns the reported loss and the weights after the last."""
    model = token_model()
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=cross_entropy(0.1), jit_compile=False)
    history = model.fit(labels, labels, sample_weight=weights, batch_size=4, shuffle=False, verbose=0)
    return history.history["loss"][0], model.get_weights()


# Rows per replica: (2, 2), and after it (2, 1). Tokens per replica: (3, 12). Keras refuses a first batch of odd size.
@pytest.mark.parametrize("num_rows", [4, 7])
def test_two_replicas_equal_one_device(batch, mirrored, num_rows):
    labels, _, weights = (np.concatenate([array, array])[:num_rows] for array in batch)
    loss, after = sgd_epoch(labels, weights)
    with mirrored.scope():
        mirrored_loss, mirrored_after = sgd_epoch(labels, weights)
    assert mirrored_loss == pytest.approx(loss, rel=tolerance("numpy_loss"))
    for one, two in zip(after, mirrored_after, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance("two_replicas"))


ROWS, LABELS = 6, 5


@pytest.fixture
def examples():
    """Logits of 6 examples with 5 labels each, and weights of which the halves sum to 2.5 and 6."""
    generator = np.random.default_rng(4)
    logits = (3 * generator.normal(size=(ROWS, LABELS))).astype(np.float32)
    return logits, np.array([2.0, 0.5, 0.0, 1.0, 3.0, 2.0], np.float32)


def mean(values, weights):
    return (values * weights).sum() / weights.sum()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_binary_cross_entropy_equals_numpy(examples, label_smoothing):
    logits, weights = examples
    labels = np.random.default_rng(5).integers(2, size=logits.shape).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    targets = labels * (1 - label_smoothing) + label_smoothing / 2
    nats = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(axis=-1)
    loss = BinaryCrossEntropy(label_smoothing)
    assert float(loss(labels, logits, weights)) == pytest.approx(mean(nats, weights), rel=tolerance("numpy_loss"))
    assert float(loss(labels, logits)) == pytest.approx(nats.mean(), rel=tolerance("numpy_loss"))


def test_binary_cross_entropy_of_large_logits_is_finite():
    loss = BinaryCrossEntropy()([[1.0, 0.0]], tf.constant([[200.0, 300.0]]))
    assert float(loss) == pytest.approx(150.0)


def test_squared_error_equals_numpy(examples):
    logits, weights = examples
    labels, predictions = logits[:, 1], logits[:, :1]
    expected = mean((predictions[:, 0].astype(np.float64) - labels) ** 2, weights)
    assert float(SquaredError()(labels, predictions, weights)) == pytest.approx(expected, rel=tolerance("numpy_loss"))


def numpy_contrastive(embeddings, weights, scale):
    """Each text against all of the other side, in float64: the mean over weights of -log softmax at the partner."""
    vectors, num_pairs = embeddings.astype(np.float64), len(embeddings) // 2
    nats = []
    for row, vector in enumerate(vectors):
        other_side = vectors[num_pairs:] if row < num_pairs else vectors[:num_pairs]
        scores = scale * other_side @ vector
        nats.append(np.log(np.exp(scores).sum()) - scores[row % num_pairs])
    return mean(np.array(nats), weights)


def partners(num_rows):
    return np.roll(np.arange(num_rows, dtype=np.int32), num_rows // 2)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("scale", [20.0, 3.0])
def test_in_batch_contrastive_equals_numpy(examples, scale):
    embeddings, weights = unit(examples[0]), examples[1]
    loss = InBatchContrastive(scale)(partners(ROWS), embeddings, weights)
    assert float(loss) == pytest.approx(numpy_contrastive(embeddings, weights, scale), rel=tolerance("numpy_loss"))


@pytest.mark.parametrize(("loss", "labels"), [(BinaryCrossEntropy(), (ROWS, LABELS)), (SquaredError(), (ROWS,))])
def test_a_weight_per_label_of_an_example_is_refused(examples, loss, labels):
    with pytest.raises(ValueError, match="one weight per token or example"):
        loss(np.ones(labels, np.float32), examples[0], np.ones((ROWS, LABELS), np.float32))


@pytest.mark.parametrize("make", [lambda: BinaryCrossEntropy(1.0), lambda: InBatchContrastive(0.0)])
def test_numbers_out_of_range(make):
    with pytest.raises(ValueError, match=r"`(label_smoothing|scale)` must be .*; received (label_smoothing=1|scale=0)"):
        make()


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(0.25), SquaredError(), InBatchContrastive(7.0)])
def test_losses_of_examples_are_serializable(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


# A replica has rows 0 to 2 and weights of 2.5 in sum, or rows 3 to 5 and weights of 6; of pairs, one side each.
@pytest.mark.parametrize(
    ("loss", "metric", "labels", "width", "num_repeated"),
    [
        (
            BinaryCrossEntropy,
            LabelAccuracy,
            np.float32(np.arange(ROWS * LABELS).reshape(ROWS, LABELS) % 3 == 0),
            LABELS,
            0,
        ),
        (SquaredError, Pearson, np.linspace(-1, 1, ROWS), 1, 0),
        (CrossEntropy, Accuracy, np.arange(ROWS) % LABELS, LABELS, 0),
        (InBatchContrastive, PartnerAccuracy, partners(ROWS), LABELS, 0),
        # As tfzoo.data.sharding makes uneven batches even: the second replica has two rows that count for nothing.
        (InBatchContrastive, PartnerAccuracy, partners(ROWS), LABELS, 2),
    ],
    ids=["multi_label", "regression", "single_label", "pairs", "uneven_pairs"],
)
def test_examples_on_two_replicas_equal_one_device(examples, mirrored, loss, metric, labels, width, num_repeated):
    def repeated(rows, factor=1):
        return np.concatenate([rows, factor * np.repeat(rows[:1], num_repeated, axis=0)])

    def trained(features, labels, weights):
        keras.utils.set_random_seed(5)
        layers = [keras.Input((LABELS,)), keras.layers.Dense(7, activation="tanh"), keras.layers.Dense(width)]
        if loss is InBatchContrastive:
            layers.append(keras.layers.UnitNormalization())
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.SGD(0.1), loss(), weighted_metrics=[metric()], jit_compile=False)
        data = tf.data.Dataset.from_tensors((features, labels, weights)).repeat(3)
        history = model.fit(data, shuffle=False, verbose=0).history
        return {name: values[0] for name, values in history.items()}, model.get_weights()

    features, weights = examples
    measured, after = trained(features, labels, weights)
    with mirrored.scope():
        mirrored_measured, mirrored_after = trained(repeated(features), repeated(labels), repeated(weights, factor=0))
    assert measured.keys() == mirrored_measured.keys()
    for name, value in measured.items():
        assert mirrored_measured[name] == pytest.approx(value, rel=tolerance("numpy_loss")), name
    for one, two in zip(after, mirrored_after, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance("two_replicas"))
