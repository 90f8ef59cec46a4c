"""What only the Transformer promises: its variants, its state, its config. `test_contract.py` holds the rest."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.promises import assert_equals_numpy, assert_one_trace_serves_every_batch_and_length, randomized
from tests.references import transformer as reference
from tests.tolerances import tolerance
from tfzoo.errors import RecipeError
from tfzoo.models import Transformer, TransformerConfig

pytestmark = pytest.mark.xdist_group("transformer")

B, T, S, V = 3, 7, 5, 37
CONFIG = TransformerConfig(
    vocabulary_size=V, hidden_dim=12, intermediate_dim=20, num_layers=2, num_heads=3, max_sequence_length=9
)


def random_model(config, **kwargs):
    return randomized(Transformer(config, **kwargs))


def random_inputs(seed=0):
    generator = np.random.default_rng(seed)
    inputs = {
        "encoder_token_ids": generator.integers(1, V, (B, S)).astype(np.int32),
        "decoder_token_ids": generator.integers(1, V, (B, T)).astype(np.int32),
    }
    inputs["encoder_token_ids"][1, 3:] = 0
    return inputs


@pytest.fixture(scope="module")
def model():
    return random_model(dataclasses.replace(CONFIG, source_vocabulary_size=41, dropout=0.5))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("source_vocabulary_size", [None, 41])
@pytest.mark.parametrize("normalize_first", [False, True])
def test_every_variant_equals_numpy(normalize_first, source_vocabulary_size, positions):
    config = dataclasses.replace(
        CONFIG,
        normalize_first=normalize_first,
        source_vocabulary_size=source_vocabulary_size,
        positions=positions,
    )
    assert_equals_numpy(random_model(config), reference, random_inputs())


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "gelu"},
        {"activation": "swish"},
        {"positions": "sinusoidal_halves"},
        {"scale_embeddings": False},
        {"logits_bias": True},
        {"layer_norm_epsilon": 0.1},
        {"layer_norm_epsilon": 0.1, "normalize_first": True},
    ],
    ids=str,
)
def test_every_option_equals_numpy(change):
    assert_equals_numpy(
        random_model(dataclasses.replace(CONFIG, source_vocabulary_size=41, **change)), reference, random_inputs()
    )


def test_variables_have_names_of_their_own():
    config = dataclasses.replace(CONFIG, source_vocabulary_size=41, positions="learned", normalize_first=True)
    first, second = Transformer(config), Transformer(config)
    paths = [variable.path for variable in first.trainable_variables]
    assert len(set(paths)) == len(paths)
    assert paths == [variable.path for variable in second.trainable_variables]  # a second model in one process
    assert "transformer/decoder_block_1/cross_attention/key/kernel" in paths


def test_call_is_start_then_step_bit_for_bit(model):
    inputs = random_inputs()
    logits, _ = model.step(inputs["decoder_token_ids"], model.start({"encoder_token_ids": inputs["encoder_token_ids"]}))
    assert np.array_equal(model(inputs), logits)


def test_attention_is_that_of_every_layer_and_head(model):
    inputs = random_inputs()
    found = model.attention(inputs)
    weights = {variable.path.removeprefix("transformer/"): variable.numpy() for variable in model.trainable_variables}
    expected = reference.attention(model.config, weights, inputs)
    assert found.shape == expected.shape == (B, 2, 3, T, S)
    assert np.ptp(expected[0], axis=-1).min() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("numpy_parity"))


def test_the_state_is_what_start_says(model):
    inputs = random_inputs()
    state = model.start(inputs)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "memory_padding_mask": (3, 5),
        **{f"memory_{part}_{i}": (3, 3, 5, 4) for part in ("key", "value") for i in (0, 1)},
        **{f"self_{part}_{i}": (3, 3, 0, 4) for part in ("key", "value") for i in (0, 1)},
    }
    np.testing.assert_array_equal(state["memory_padding_mask"], [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    _, state = model.step(inputs["decoder_token_ids"][:, :2], state)
    _, state = model.step(inputs["decoder_token_ids"][:, 2:3], state)
    assert state["self_key_1"].shape == state["self_value_0"].shape == (3, 3, 3, 4)


def test_a_step_past_the_last_position_is_refused_on_a_cpu(model):
    token = np.ones((B, 1), np.int32)
    _, state = model.step(np.ones((B, 9), np.int32), model.start(random_inputs()))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"9 is not in \[0, 9\)"):
        model.step(token, state)


def test_a_source_of_padding_alone_gives_numbers(model):
    inputs = random_inputs()
    inputs["encoder_token_ids"][1] = 0
    assert np.isfinite(model(inputs)).all()


def test_dropout_is_on_in_training_only(model):
    inputs = random_inputs()
    assert np.array_equal(model(inputs), model(inputs))
    first, second = model(inputs, training=True), model(inputs, training=True)
    assert not np.array_equal(first, second)
    # The encoder has dropout too: with the decoder's off, the memory still varies.
    assert not np.array_equal(*(model.start(inputs, training=True)["memory_key_0"] for _ in range(2)))
    logits = [model.step(inputs["decoder_token_ids"], model.start(inputs), training=True)[0] for _ in range(2)]
    assert not np.array_equal(*logits)


def test_config_round_trip(model):
    copy = Transformer.from_config(model.get_config())
    assert copy.config == model.config
    assert copy.name == model.name
    half = Transformer(CONFIG, name="mine", dtype="mixed_bfloat16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(half))
    assert (copy.name, copy.dtype_policy.name, copy.config) == ("mine", "mixed_bfloat16", CONFIG)
    assert copy.decoder_blocks[1].self_attention.query_dense.compute_dtype == "bfloat16"


def test_the_cache_is_in_the_compute_dtype():
    state = Transformer(CONFIG, dtype="mixed_bfloat16").start(random_inputs())
    assert {value.dtype for name, value in state.items() if name != "memory_padding_mask"} == {tf.bfloat16}
    assert state["memory_padding_mask"].dtype == tf.int32


def test_one_trace_serves_every_batch_and_length(model):
    assert_one_trace_serves_every_batch_and_length(model, random_inputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "`num_heads` must divide `hidden_dim`; received num_heads=5, hidden_dim=12."),
        ({"hidden_dim": 9}, "`hidden_dim` must be even; received hidden_dim=9."),
        ({"dropout": 1.0}, "`dropout` must be in [0, 1); received dropout=1.0."),
        (
            {"positions": "rotary"},
            "`positions` must be one of sinusoidal, sinusoidal_halves, learned; received positions='rotary'.",
        ),
        (
            {"activation": "gelu_tanh"},
            "`activation` must be one of relu, gelu, swish; received activation='gelu_tanh'. Did you mean 'gelu'?",
        ),
        (
            {"layer_norm_epsilon": 0.0},
            "`layer_norm_epsilon` must be in (0, 1); received layer_norm_epsilon=0.0.",
        ),
        ({"end_id": 37}, "`end_id` must be in [0, vocabulary_size); received end_id=37, vocabulary_size=37."),
        ({"num_layers": 0}, "`num_layers` must be at least 1; received num_layers=0."),
        (
            {"source_vocabulary_size": 0},
            "`source_vocabulary_size` must be at least 1 or None; received source_vocabulary_size=0.",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else "".join(value),
)
def test_a_config_that_cannot_work_is_refused(change, message):
    with pytest.raises(RecipeError) as error:
        dataclasses.replace(CONFIG, **change)
    assert str(error.value) == message
