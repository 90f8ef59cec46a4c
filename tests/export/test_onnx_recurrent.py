"""The LSTM as one ONNX operator: alone, by lengths, in a loop, with its weights in the file once."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from onnx import numpy_helper

from tests.tolerances import tolerance
from tfzoo.export.onnx import convert
from tfzoo.export.onnx_passes import count_operators, subgraphs
from tfzoo.models import LstmLanguageModel, LstmLmConfig

V, E, D = 37, 24, 30
IDS = tf.TensorSpec((None, None), tf.int32)
NUM_STEPS = 5


@pytest.fixture(scope="module")
def model():
    model = LstmLanguageModel(LstmLmConfig(vocabulary_size=V, embedding_dim=E, hidden_dim=D, num_layers=2))
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.4, variable.shape))
    return model


def run_both(function, onnx_model, token_ids, padding_mask):
    session = onnxruntime.InferenceSession(onnx_model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    found = session.run(None, {"token_ids": token_ids, "padding_mask": padding_mask})
    expected = function(tf.constant(token_ids), tf.constant(padding_mask))
    return dict(zip(names, found, strict=True)), {name: value.numpy() for name, value in expected.items()}


def prompts(*lengths):
    longest = max(1, *lengths)
    token_ids = np.random.default_rng(1).integers(0, V, (len(lengths), longest)).astype(np.int32)
    return token_ids, (np.arange(longest) < np.array(lengths)[:, np.newaxis]).astype(np.int32)


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_is_one_operator_and_computes_the_same(model, masked):
    def read(token_ids, padding_mask):
        state = {name: value + 0.3 for name, value in model.empty_state(tf.shape(token_ids)[0]).items()}
        mask = padding_mask if masked else None
        logits, state = model.step(token_ids, state, padding_mask=mask)
        return {"logits": logits * tf.cast(padding_mask, tf.float32)[:, :, tf.newaxis], **state}

    axes = {name: ("batch", width) for name, width in zip(model.empty_state(1), [D, D, E, E], strict=True)}
    converted = convert(
        read,
        {"token_ids": IDS, "padding_mask": IDS},
        {**dict.fromkeys(("token_ids", "padding_mask"), ("batch", "length")), "logits": ("batch", "length", V), **axes},
    )
    operators = count_operators(converted)
    assert operators["LSTM"] == 2
    assert "Loop" not in operators
    # A row without tokens keeps its state, also where all rows are like that.
    for lengths in [(7, 3, 0, 1), (1,), (0, 0), (2, 2)]:
        found, expected = run_both(read, converted, *prompts(*lengths))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance("onnx_logits"), err_msg=name)
        if masked and 0 in lengths:
            np.testing.assert_array_equal(found["cell_0"][lengths.index(0)], np.full(D, 0.3, np.float32))


def test_in_a_loop_of_steps_with_one_copy_of_the_weights(model):
    def generate(token_ids, padding_mask):
        last = tf.gather(token_ids, tf.reduce_sum(padding_mask, axis=1) - 1, batch_dims=1)
        state = model.start({"token_ids": token_ids, "padding_mask": padding_mask})

        def advance(step, last, tokens, state):
            logits, state = model.step(tf.reshape(last, [-1, 1]), state)
            best = tf.math.top_k(logits[:, -1], 1)[1]
            return step + 1, best, tf.concat([tokens, best], axis=1), state

        begin = (tf.constant(0), last[:, tf.newaxis], token_ids[:, :0], state)
        shapes = tf.nest.map_structure(lambda value: tf.TensorShape([None] * value.shape.rank), begin)
        _, _, tokens, state = tf.while_loop(lambda step, *_: step < NUM_STEPS, advance, begin, shapes)
        return {"tokens": tokens, "hidden": state["hidden_1"]}

    converted = convert(
        generate,
        {"token_ids": IDS, "padding_mask": IDS},
        {
            **dict.fromkeys(("token_ids", "padding_mask"), ("batch", "length")),
            "tokens": ("batch", "num_steps"),
            "hidden": ("batch", E),
        },
    )
    main, body = subgraphs(converted.graph)
    assert [sum(node.op_type == "LSTM" for node in graph.node) for graph in (main, body)] == [2, 2]
    assert max([0, *(numpy_helper.to_array(tensor).size for tensor in body.initializer)]) < 16
    lstm_inputs = [sorted(node.input[1:4] for node in graph.node if node.op_type == "LSTM") for graph in (main, body)]
    assert lstm_inputs[0] == lstm_inputs[1]
    for lengths in [(7, 3, 1), (1,), (2, 2, 2, 2)]:
        found, expected = run_both(generate, converted, *prompts(*lengths))
        assert found["tokens"].shape == (len(lengths), NUM_STEPS)
        np.testing.assert_array_equal(found["tokens"], expected["tokens"])
        np.testing.assert_allclose(found["hidden"], expected["hidden"], rtol=0, atol=tolerance("onnx_logits"))
