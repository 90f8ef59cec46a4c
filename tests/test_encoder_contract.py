"""Every head of every tiny encoder of the zoo against every promise that a model makes.

`test_contract.py` is about models that write: half of it are steps, states and what comes before what. An encoder sees
its whole input at once and answers in another shape for each task, so that no test there would be free of a condition.
A new family joins by its entry in the zoo and its line in `FAMILIES`; a new task by its lines in `HEADS`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.contract import (
    FIRST_WORD,
    MAX_LENGTH,
    TOO_LONG,
    B,
    T,
    V,
    assert_one_batch_overfits,
    assert_two_devices_equal_one,
    copy_weights,
    families,
    randomize,
    tiny_entries,
    two_replicas,
    weights,
)
from tests.references import bert as bert_reference
from tests.tolerances import tolerance
from tfzoo.training import checkpoints
from tfzoo.training.losses import CrossEntropy
from tfzoo.zoo import ZOO

# One worker takes the whole file: the models and their traces are built once.
pytestmark = pytest.mark.xdist_group("encoder_contract")

L, M, D = 5, 2, 12  # labels, masked tokens, width
LABELS = tuple("abcde")
# Of what all keys share, and of what all places for an answer share, a softmax over them does not see anything.
UNSEEN = ("key/bias",)
UNSEEN_BY_SPANS = ("block_1/feed_forward_residual/normalization/beta", "question_answering/bias")
# Name of a head -> (its task, the fields of its config, the shape of each output as letters).
HEADS = {
    "fill_mask": ("fill_mask", {}, {"logits": "BTV"}),
    "next_sentence": (
        "fill_mask",
        {"next_sentence": True, "num_texts": 2},
        {"logits": "BTV", "next_sentence_logits": "B2"},
    ),
    "text_classification": ("text_classification", {"labels": LABELS}, {"logits": "BL"}),
    "multi_label": ("text_classification", {"labels": LABELS, "problem": "multi_label"}, {"logits": "BL"}),
    "regression": ("text_classification", {"problem": "regression", "num_texts": 2}, {"logits": "B1"}),
    "token_classification": ("token_classification", {"labels": LABELS}, {"logits": "BTL"}),
    "question_answering": ("question_answering", {"num_texts": 2}, {"logits": "B2T"}),
    "text_embedding": ("text_embedding", {}, {"logits": "BD"}),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What the promises need to know of a family.

    Args:
        model: the class; takes a config and Keras' `dtype`.
        reference: (config, weights by path, inputs) -> float64 logits, in NumPy; of padding any number.
        sizes: config fields to overwrite, so that sizes are distinct.
    """

    model: type[keras.Model]
    reference: Callable[..., Any]
    sizes: dict[str, Any]


FAMILIES = {
    "bert": Family(
        model=tfzoo.models.Bert,
        reference=bert_reference.logits,
        sizes={
            "vocabulary_size": V,
            "hidden_dim": D,
            "intermediate_dim": 20,
            "num_heads": 3,
            "max_sequence_length": MAX_LENGTH,
            "pad_id": 0,
            "start_id": 1,
            "end_id": 2,
            "mask_id": 3,
        },
    )
}


def outputs(logits):
    """Name of each output -> its values; a model with one gives it bare."""
    return {
        name: np.asarray(value) for name, value in (logits if isinstance(logits, dict) else {"logits": logits}).items()
    }


def of_tokens(letters, values, real):
    """The values of the tokens where `real`, (B, T), is true; all, where an output has none by token."""
    if "T" not in letters:
        return values
    return np.moveaxis(values, letters.index("T"), 1)[real]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A family, a config with one of its heads, and a model with random weights everywhere."""

    family: Family
    config: Any
    shapes: dict[str, str]
    model: keras.Model

    def inputs(self, seed: int = 0, num_rows: int = B, length: int = T) -> dict[str, np.ndarray]:
        """Random words without padding, the last three of the second segment."""
        token_ids = np.random.default_rng(seed).integers(FIRST_WORD, V, (num_rows, length)).astype(np.int32)
        segments = (np.arange(length) >= length - 3).astype(np.int32)
        return {
            "token_ids": token_ids,
            "padding_mask": np.ones_like(token_ids),
            "segment_ids": np.tile(segments, (num_rows, 1)),
        }

    def padded_inputs(self, num_real: list[int], seed: int = 0) -> dict[str, np.ndarray]:
        """Random words, of which row i has `num_real[i]`; padding has ids and segments like all others."""
        inputs = self.inputs(seed, len(num_real))
        real = np.arange(T) < np.array(num_real)[:, np.newaxis]
        return inputs | {"padding_mask": real.astype(np.int32)}

    def assert_close(self, found: Any, expected: Any, real: np.ndarray, atol: float) -> None:
        """Compares what both say of the tokens where `real`, (B, T), is true."""
        found, expected = outputs(found), outputs(expected)
        assert found.keys() == expected.keys() == self.shapes.keys()
        for name, letters in self.shapes.items():
            one, other = (of_tokens(letters, values[name], real) for values in (found, expected))
            np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=name)

    def new_model(self, dtype: str | None = None, **changes: Any) -> keras.Model:
        """Another model with the same weights."""
        model = self.family.model(dataclasses.replace(self.config, **changes), dtype=dtype)
        copy_weights(self.model, model)
        return model


@pytest.fixture(
    scope="module", params=[(name, head) for name in tiny_entries(generative=False) for head in HEADS], ids="-".join
)
def subject(request):
    name, head = request.param
    task, fields, shapes = HEADS[head]
    recipe = tfzoo.recipe(name, task)
    family = FAMILIES[recipe.family]
    config = dataclasses.replace(recipe.model, **family.sizes | fields)
    keras.utils.set_random_seed(7)
    model = family.model(config)
    randomize(model, noise=0.2)
    return Subject(family, config, shapes, model)


def test_the_zoo_has_a_tiny_encoder_of_every_family_and_task():
    encoders = [name for name in ZOO if ZOO[name].recipe().family in FAMILIES]
    tiny = tiny_entries(generative=False)
    assert families(tiny) == families(encoders) == set(FAMILIES)
    for name in tiny:
        assert set(ZOO[name].tasks) == {task for task, _, _ in HEADS.values()}


class TestShape:
    @pytest.mark.parametrize(("num_rows", "length"), [(B, T), (2, T + 2), (1, 1)])
    def test_logits_have_the_shape_that_the_task_says(self, subject, num_rows, length):
        sizes = {"B": num_rows, "T": length, "V": V, "L": L, "D": D, "1": 1, "2": 2}
        found = outputs(subject.model(subject.inputs(num_rows=num_rows, length=length)))
        assert {name: value.shape for name, value in found.items()} == {
            name: tuple(sizes[letter] for letter in letters) for name, letters in subject.shapes.items()
        }
        assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}

    def test_the_model_says_its_task(self, subject):
        assert subject.model.task == subject.config.task

    def test_the_signature_leaves_batch_and_length_open(self, subject):
        signature = subject.model.input_signature()
        assert set(signature) == set(subject.inputs())
        for name, spec in signature.items():
            assert spec == tf.TensorSpec((None, None), tf.int32, name=name)

    def test_every_position_can_be_used(self, subject):
        found = outputs(subject.model(subject.inputs(length=MAX_LENGTH)))
        assert all(np.isfinite(value).all() for value in found.values())

    def test_a_sequence_too_long_is_refused(self, subject):
        with pytest.raises(ValueError, match="must not be longer") as error:
            subject.model(subject.inputs(length=MAX_LENGTH + 1))
        assert TOO_LONG in str(error.value)


class TestPadding:
    def test_more_padding_changes_no_real_logit(self, subject):
        inputs = subject.padded_inputs([7, 2, 5])
        generator = np.random.default_rng(3)
        longer = {
            "token_ids": np.hstack([inputs["token_ids"], generator.integers(0, V, (B, 4))]).astype(np.int32),
            "padding_mask": np.pad(inputs["padding_mask"], [(0, 0), (0, 4)]),
            "segment_ids": np.hstack([inputs["segment_ids"], generator.integers(0, 2, (B, 4))]).astype(np.int32),
        }
        found, expected = outputs(subject.model(longer)), outputs(subject.model(inputs))
        real, real_of_longer = inputs["padding_mask"] == 1, longer["padding_mask"] == 1
        for name, letters in subject.shapes.items():
            np.testing.assert_allclose(
                of_tokens(letters, found[name], real_of_longer),
                of_tokens(letters, expected[name], real),
                rtol=0,
                atol=tolerance("padding"),
            )

    def test_each_row_of_a_batch_gets_what_it_gets_alone(self, subject):
        inputs = subject.padded_inputs([7, 2, 5])
        together = outputs(subject.model(inputs))
        for row, length in enumerate((7, 2, 5)):
            alone = outputs(subject.model({name: value[row : row + 1, :length] for name, value in inputs.items()}))
            for name, letters in subject.shapes.items():
                in_batch = of_tokens(letters, together[name][row : row + 1], inputs["padding_mask"][row : row + 1] == 1)
                by_itself = of_tokens(letters, alone[name], np.ones((1, length), bool))
                np.testing.assert_allclose(in_batch, by_itself, rtol=0, atol=tolerance("padding"))


class TestContext:
    @pytest.mark.parametrize("name", ["token_ids", "segment_ids"])
    def test_every_token_reaches_every_logit(self, subject, name):
        inputs = subject.inputs()
        before = outputs(subject.model(inputs))
        for t in range(T):
            changed = {key: value.copy() for key, value in inputs.items()}
            column = changed[name][:, t]
            changed[name][:, t] = 1 - column if name == "segment_ids" else FIRST_WORD + (column - FIRST_WORD + 1) % 33
            after = outputs(subject.model(changed))
            for output, letters in subject.shapes.items():
                difference = np.abs(after[output] - before[output])
                # The largest over everything but rows and, where there are any, tokens.
                axes = tuple(axis for axis, letter in enumerate(letters) if axis and letter != "T")
                assert (difference.max(axis=axes) > 1e-4).all(), (output, t)


class TestParity:
    def test_equals_numpy(self, subject):
        inputs = subject.padded_inputs([7, 2, 5], seed=1)
        expected = subject.family.reference(subject.config, weights(subject.model), inputs)
        for value in outputs(expected).values():
            assert np.nanmax(np.abs(value)) > 0.3  # the weights do something
        subject.assert_close(
            subject.model(inputs), expected, inputs["padding_mask"] == 1, atol=tolerance("numpy_parity")
        )

    def test_masked_tokens_alone_equal_numpy(self, subject):
        if subject.config.task != "fill_mask":
            pytest.skip("`mask_positions` are an input of masked language models")
        inputs = subject.padded_inputs([7, 2, 5], seed=1) | {"mask_positions": np.array([[6, 0], [1, 0], [2, 4]])}
        expected = subject.family.reference(subject.config, weights(subject.model), inputs)
        found = outputs(subject.model(inputs))
        assert found["logits"].shape == (B, M, V)
        for name, value in outputs(expected).items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance("numpy_parity"))


@keras.saving.register_keras_serializable("tests")
class Aligned(CrossEntropy):
    """Cross entropy of twenty times the prediction, which one of length 1 can bring to 0 too."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, 20.0 * y_pred, sample_weight)


def loss_of(subject, **options):
    """A loss that each output of the model takes as its own."""
    loss = (Aligned if subject.config.task == "text_embedding" else CrossEntropy)(**options)
    return {name: loss for name in subject.shapes} if len(subject.shapes) > 1 else loss


def training_data(subject, num_real):
    """Inputs, labels and weights, each label an index into the last axis of its output; padding weighs nothing."""
    inputs = subject.padded_inputs(num_real, seed=3)
    if subject.config.task == "fill_mask":
        inputs["mask_positions"] = np.array([[0, length - 1] for length in num_real], np.int32)
    generator = np.random.default_rng(4)
    labels, sample_weight = {}, {}
    for name, letters in subject.shapes.items():
        shape = {"BTV": (len(num_real), M), "BTL": (len(num_real), T), "B2T": (len(num_real), 2)}.get(letters)
        # An answer lies in the shortest text; all others are classes.
        num_classes = {"V": V, "L": L, "D": D, "2": 2, "T": min(num_real)}[letters[-1]]
        labels[name] = generator.integers(0, num_classes, shape or len(num_real)).astype(np.int32)
        weight = inputs["padding_mask"] if letters == "BTL" else np.ones_like(labels[name])
        sample_weight[name] = weight.astype(np.float32)
    if len(subject.shapes) > 1:
        return inputs, labels, sample_weight
    return inputs, labels["logits"], sample_weight["logits"]


@pytest.fixture
def trainable(subject):
    """The subject, if its logits are scores of classes, as those of every task but two problems are."""
    if subject.config.problem != "single_label":
        pytest.skip("tests/training has the losses of numbers and of several labels")
    return subject


class TestLearning:
    def test_one_batch_overfits(self, trainable):
        keras.utils.set_random_seed(1)
        model = trainable.family.model(dataclasses.replace(trainable.config, dropout=0.0))
        assert_one_batch_overfits(model, loss_of(trainable), training_data(trainable, [7, 5, 2]), 1e-2)


@pytest.fixture(scope="module")
def mirrored(two_cpus):
    with two_replicas(two_cpus, collective_key=300_000) as strategy:
        yield strategy


class TestDistribution:
    def test_two_devices_equal_one(self, trainable, mirrored):
        # Rows per replica: (2, 2), then (2, 1). Tokens per replica: (9, 4), then (8, 6).
        data = training_data(trainable, [7, 2, 2, 3, 5, 3, 6])
        unseen = UNSEEN + UNSEEN_BY_SPANS * (trainable.config.task == "question_answering")
        assert_two_devices_equal_one(
            lambda: trainable.new_model(dropout=0.0),
            loss_of(trainable, label_smoothing=0.1),
            data,
            mirrored,
            unseen=unseen,
        )


class TestResume:
    def test_two_steps_and_two_more_equal_four(self, trainable, tmp_path):
        data = training_data(trainable, [7, 5, 2])

        def compiled():
            keras.utils.set_random_seed(1)
            model = trainable.new_model(dropout=0.3)
            # By itself Keras calls a second one "adam_1".
            optimizer = keras.optimizers.Adam(1e-2, name="adam")
            model.compile(optimizer=optimizer, loss=loss_of(trainable), run_eagerly=True)  # eight steps, three models
            model.optimizer.build(model.trainable_variables)
            return model

        def train(model, num_steps):
            model.fit(tf.data.Dataset.from_tensors(data).repeat(num_steps), shuffle=False, verbose=0)
            return weights(model)

        whole, first, second = compiled(), compiled(), compiled()
        train(first, 2)
        checkpoint = checkpoints.save(first, tmp_path, [{"step": 2}])
        checkpoints.restore(second, checkpoint)
        expected = train(whole, 4)
        for name, value in train(second, 2).items():
            assert np.array_equal(value, expected[name]), name


class TestKeras:
    def test_saved_and_loaded_is_bit_equal(self, subject, tmp_path):
        inputs = subject.inputs()
        subject.model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(subject.model)
        assert loaded.config == subject.config
        found, expected = outputs(loaded(inputs)), outputs(subject.model(inputs))
        for name in subject.shapes:
            assert np.array_equal(found[name], expected[name])


class TestDropout:
    def test_it_is_on_in_training_only(self, subject):
        model, inputs = subject.new_model(dropout=0.3), subject.inputs()
        for training in (False, True):
            one, other = (outputs(model(inputs, training=training)) for _ in range(2))
            for name in subject.shapes:
                assert np.array_equal(one[name], other[name]) != training


class TestMixedPrecision:
    def test_bfloat16_is_close_to_float32(self, subject):
        inputs = subject.inputs(num_rows=50)  # the mean of many
        model = subject.new_model(dtype="mixed_bfloat16")
        assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"mixed_bfloat16"}
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
        found, expected = outputs(model(inputs)), outputs(subject.model(inputs))
        for name, value in expected.items():
            assert found[name].dtype == np.float32
            assert not np.array_equal(found[name], value)  # it did compute in bfloat16
            difference = np.abs(found[name] - value) / np.abs(value).max()
            assert difference.mean() < tolerance("bfloat16")
