"""Computed again, a block has the same masks and gradients, and between two blocks nothing else is kept."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerances import tolerance
from tfzoo.errors import RecipeError
from tfzoo.models import GPT2, Bert, LstmLanguageModel, Transformer
from tfzoo.models.config import BertConfig, GPT2Config, LstmLmConfig, TransformerConfig
from tfzoo.training.recomputation import recomputed

B, T, S, V = 3, 29, 23, 37
SIZES = {"vocabulary_size": V, "hidden_dim": 24, "num_layers": 2, "dropout": 0.3, "max_sequence_length": T}
BLOCKS = {**SIZES, "intermediate_dim": 40, "num_heads": 3}
SPECIAL = {"pad_id": 0, "start_id": 1, "end_id": 2}
MODELS = {
    "transformer": lambda: Transformer(TransformerConfig(**BLOCKS, **SPECIAL)),
    "gpt2": lambda: GPT2(GPT2Config(**BLOCKS, **SPECIAL)),
    "bert": lambda: Bert(BertConfig(**BLOCKS, start_id=1, end_id=2, mask_id=3, task="fill_mask")),
}


def inputs(model):
    generator = np.random.default_rng(3)
    lengths = {"encoder_token_ids": S}
    ids = {
        name: tf.constant(generator.integers(4, V, (B, lengths.get(name, T))), "int32")
        for name in model.input_signature()
    }
    mask = {
        "padding_mask": tf.constant(np.arange(T) < [[T], [5], [17]], "int32"),
        "segment_ids": tf.zeros((B, T), "int32"),
    }
    return ids | {name: value for name, value in mask.items() if name in ids}


def two_gradients(family, recompute):
    """The gradients of two steps in a row, dropout on, and the dropout states behind them."""
    keras.utils.set_random_seed(1)
    model = MODELS[family]()
    found = []
    with recomputed(model) if recompute else contextlib.nullcontext():
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(inputs(model), training=True)))
            found += [loss, *map(tf.convert_to_tensor, tape.gradient(loss, model.trainable_variables))]
    states = [variable for variable in model.variables if "seed" in variable.path]
    return [value.numpy() for value in found], [state.numpy() for state in states]


@pytest.mark.parametrize("family", MODELS)
def test_gradients_and_dropout_states_are_as_without(family):
    expected, expected_states = two_gradients(family, recompute=False)
    found, states = two_gradients(family, recompute=True)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance("recomputed"))
    np.testing.assert_array_equal(states, expected_states)
    # The second step drew other masks than the first.
    assert abs(found[0] - found[len(found) // 2]) > 1e-5


def kept_bytes(family, recompute):
    """What the forward pass hands to the backward pass, the weights included."""
    model = MODELS[family]()
    with recomputed(model) if recompute else contextlib.nullcontext():
        function = tf.function(lambda x: model(x, training=True)).get_concrete_function(inputs(model))
        # TensorFlow has no public name for it.
        forward, _ = function._delayed_rewrite_functions.forward_backward()
    values = [spec for spec in forward.function_type.flat_outputs if spec.dtype not in (tf.resource, tf.variant)]
    return sum(spec.shape.num_elements() * spec.dtype.size for spec in values)


def test_between_two_blocks_the_hidden_states_alone_are_kept():
    without, kept = kept_bytes("gpt2", recompute=False), kept_bytes("gpt2", recompute=True)
    attention = 2 * B * 3 * T * T * 4  # one of several tensors of (B, H, T, T) in each of two blocks
    assert without > 2 * attention
    assert kept < 0.5 * without
    assert without - kept > 2 * attention


def test_it_ends_with_the_block():
    model = MODELS["gpt2"]()
    with recomputed(model):
        assert "call" in vars(model.blocks[0])
    assert "call" not in vars(model.blocks[0])


def test_a_recurrent_model_is_refused():
    model = LstmLanguageModel(LstmLmConfig(**SIZES, **SPECIAL, embedding_dim=24))
    message = "`recompute` is for the blocks of a Transformer, GPT-2 or BERT, and 'lstm_lm' has none; set it to false."
    with pytest.raises(RecipeError, match=message), recomputed(model):
        pass
