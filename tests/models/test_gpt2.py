"""What only GPT-2 promises: its state, its positions, its first weights. `test_contract.py` holds the rest."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.promises import assert_equals_numpy, assert_one_trace_serves_every_batch_and_length, randomized
from tests.references import gpt2 as reference
from tests.tolerances import tolerance
from tfzoo.errors import RecipeError
from tfzoo.models import GPT2, GPT2Config

pytestmark = pytest.mark.xdist_group("gpt2")

B, T, V = 3, 7, 37
CONFIG = GPT2Config(
    vocabulary_size=V,
    hidden_dim=12,
    intermediate_dim=20,
    num_layers=2,
    num_heads=3,
    max_sequence_length=9,
    pad_id=36,
    start_id=36,
    end_id=36,
)


def random_model(config, **kwargs):
    return randomized(GPT2(config, **kwargs))


def random_inputs(lengths=(7, 3, 1)):
    """Rows whose padding has random ids too, and whose real tokens are now and then the padding id."""
    token_ids = np.random.default_rng(0).integers(30, V, (B, T)).astype(np.int32)
    return {
        "token_ids": token_ids,
        "padding_mask": (np.arange(T) < np.array(lengths)[:, np.newaxis]).astype(np.int32),
    }


@pytest.fixture(scope="module")
def model():
    return random_model(dataclasses.replace(CONFIG, dropout=0.5))


@pytest.mark.parametrize("layer_norm_epsilon", [1e-5, 0.5])
def test_equals_numpy(layer_norm_epsilon):
    config = dataclasses.replace(CONFIG, layer_norm_epsilon=layer_norm_epsilon)
    assert_equals_numpy(random_model(config), reference, random_inputs())


def test_variables_have_names_of_their_own():
    first, second = GPT2(CONFIG), GPT2(CONFIG)
    paths = [variable.path for variable in first.trainable_variables]
    assert len(set(paths)) == len(paths) == 2 + 2 * 16 + 2
    assert paths == [variable.path for variable in second.trainable_variables]  # a second model in one process
    assert "gpt2/block_1/self_attention/key/kernel" in paths


def test_weights_start_as_the_paper_says():
    keras.utils.set_random_seed(4)
    model = GPT2(dataclasses.replace(CONFIG, hidden_dim=96, intermediate_dim=384, num_layers=8, num_heads=4))
    for variable in model.trainable_variables:
        *_, layer, kind = variable.path.split("/")
        if kind in ("bias", "beta"):
            assert not variable.numpy().any()
        elif kind == "gamma":
            assert (variable.numpy() == 1).all()
        else:
            stddev = 0.02 / 4 if layer == "output" else 0.02  # 16 projections onto the residual stream
            assert variable.numpy().std() == pytest.approx(stddev, rel=0.1), variable.path


def test_the_state_is_what_start_says(model):
    inputs = random_inputs()
    state = model.start(inputs)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "cache_mask": (3, 7),
        **{f"self_{part}_{i}": (3, 3, 7, 4) for part in ("key", "value") for i in (0, 1)},
    }
    expected = [[1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(state["cache_mask"], expected)
    _, state = model.step(inputs["token_ids"][:, :2], state)
    assert state["self_key_1"].shape == state["self_value_0"].shape == (3, 3, 9, 4)
    np.testing.assert_array_equal(state["cache_mask"], np.pad(expected, [(0, 0), (0, 2)], constant_values=1))


def test_the_prompt_is_the_inputs(model):
    inputs = random_inputs()
    token_ids, padding_mask = model.prompt(inputs)
    assert token_ids is inputs["token_ids"]
    assert padding_mask is inputs["padding_mask"]


def test_call_reads_no_other_input(model):
    inputs = random_inputs()
    assert np.array_equal(model(inputs | {"continues": np.ones(B, np.int32)}), model(inputs))


def test_gaps_in_the_cache_take_no_positions(model):
    # 7 cached entries, of which the last row used none: it has 9 positions left, and no more.
    tokens = np.full((B, 1), 31, np.int32)
    state = model.start(random_inputs(lengths=(1, 1, 1)))
    alone = model({"token_ids": np.full((B, 9), 31, np.int32), "padding_mask": np.ones((B, 9), np.int32)})
    for t in range(9):
        logits, state = model.step(tokens, state)
        np.testing.assert_allclose(logits[:, 0], alone[:, t], rtol=0, atol=10 * tolerance("cached_step"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"9 is not in \[0, 9\)"):
        model.step(tokens, state)
    # A row that is full may still be padded while others go on.
    logits, _ = model.step(tokens, state, padding_mask=np.zeros((B, 1), np.int32))
    assert np.isfinite(logits).all()


def test_dropout_is_on_in_training_only(model):
    inputs = random_inputs()
    assert np.array_equal(model(inputs), model(inputs))
    assert not np.array_equal(*(model(inputs, training=True) for _ in range(2)))
    assert not np.array_equal(*(model.start(inputs, training=True)["self_key_0"] for _ in range(2)))


def test_config_round_trip():
    half = GPT2(CONFIG, name="mine", dtype="mixed_bfloat16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(half))
    assert (copy.name, copy.dtype_policy.name, copy.config) == ("mine", "mixed_bfloat16", CONFIG)
    assert copy.blocks[1].self_attention.query_dense.compute_dtype == "bfloat16"


def test_the_cache_is_in_the_compute_dtype():
    state = GPT2(CONFIG, dtype="mixed_bfloat16").start(random_inputs())
    assert {value.dtype for name, value in state.items() if name != "cache_mask"} == {tf.bfloat16}
    assert state["cache_mask"].dtype == tf.int32


def test_one_trace_serves_every_batch_and_length(model):
    assert_one_trace_serves_every_batch_and_length(model, random_inputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "`num_heads` must divide `hidden_dim`; received num_heads=5, hidden_dim=12."),
        ({"dropout": 1.0}, "`dropout` must be in [0, 1); received dropout=1.0."),
        ({"layer_norm_epsilon": 0}, "`layer_norm_epsilon` must be in (0, 1); received layer_norm_epsilon=0."),
        ({"end_id": 37}, "`end_id` must be in [0, vocabulary_size); received end_id=37, vocabulary_size=37."),
    ],
    ids=lambda value: "" if isinstance(value, str) else "".join(value),
)
def test_a_config_that_cannot_work_is_refused(change, message):
    with pytest.raises(RecipeError) as error:
        dataclasses.replace(CONFIG, **change)
    assert str(error.value) == message
