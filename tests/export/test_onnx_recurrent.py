"""LSTM and GRU as one ONNX operator: alone, by lengths, in a loop, with its weights in the file once."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from onnx import numpy_helper

from tests.tolerances import tolerance
from tfzoo.export import onnx_gru_seq2seq
from tfzoo.export.onnx import convert
from tfzoo.export.onnx_passes import count_operators, subgraphs
from tfzoo.layers.gru import GRU
from tfzoo.models import GruSeq2Seq, GruSeq2SeqConfig, LstmLanguageModel, LstmLmConfig

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


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_gru_is_one_operator_and_computes_the_same(bidirectional, masked):
    layer, width = GRU(D, bidirectional), D * (2 if bidirectional else 1)
    layer.build((None, None, E))
    generator = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(0, 0.4, variable.shape))
    table = generator.normal(size=(V, E)).astype(np.float32)

    def read(token_ids, padding_mask):
        before = tf.fill([tf.shape(token_ids)[0], width], 0.3)
        y, hidden = layer(tf.gather(table, token_ids), before, padding_mask if masked else None)
        return {"y": y * tf.cast(padding_mask, tf.float32)[:, :, tf.newaxis], "hidden": hidden}

    converted = convert(
        read,
        {"token_ids": IDS, "padding_mask": IDS},
        {
            **dict.fromkeys(("token_ids", "padding_mask"), ("batch", "length")),
            "y": ("batch", "length", width),
            "hidden": ("batch", width),
        },
    )
    operators = count_operators(converted)
    assert operators["GRU"] == 1
    assert "Loop" not in operators
    for lengths in [(7, 3, 0, 1), (1,), (0, 0), (2, 2)]:
        found, expected = run_both(read, converted, *prompts(*lengths))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance("onnx_logits"), err_msg=name)
        if masked and 0 in lengths:
            np.testing.assert_array_equal(found["hidden"][lengths.index(0)], np.full(width, 0.3, np.float32))


@pytest.mark.parametrize(
    ("attention", "input_feeding"),
    [("additive", True), ("multiplicative", True), ("multiplicative", False), ("none", True), ("none", False)],
)
def test_every_kind_of_decoder_goes_on_from_what_the_encoder_gives(attention, input_feeding):
    config = GruSeq2SeqConfig(
        vocabulary_size=V,
        source_vocabulary_size=V + 4,
        embedding_dim=E,
        hidden_dim=D,
        num_layers=2,
        attention=attention,
        input_feeding=input_feeding,
    )
    model, generator = GruSeq2Seq(config), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.4, variable.shape))
    graphs = [onnx_gru_seq2seq.encoder(model), onnx_gru_seq2seq.decoder(model)]
    loops = attention != "none" and input_feeding
    assert [count_operators(graph).get("Loop", 0) for graph in graphs] == [0, int(loops)]
    assert [count_operators(graph)["GRU"] for graph in graphs] == [2, 2]
    for loop in (node for node in graphs[1].graph.node if node.op_type == "Loop"):
        weights = {tensor.name for tensor in graphs[1].graph.initializer if np.prod(tensor.dims) >= D}
        assert not weights & set(loop.input)  # it would be copied at each token
    encoder, decoder = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]) for graph in graphs
    )
    token_ids, mask = prompts(6, 2, 1)
    source = (token_ids + 1) * mask
    target = generator.integers(0, V, (3, 5))
    expected = model({"encoder_token_ids": source, "decoder_token_ids": target}).numpy()

    def run(session, feed):
        return dict(zip([value.name for value in session.get_outputs()], session.run(None, feed), strict=True))

    found = run(encoder, {"input_ids": source.astype(np.int64), "attention_mask": mask.astype(np.int64)})
    names = [value.name for value in decoder.get_inputs()]
    always = {"encoder_attention_mask": mask.astype(np.int64)} if "encoder_attention_mask" in names else {}
    state = {name: found["present." + name.split(".", 1)[1]] for name in names if name.startswith("past_")}
    logits = []
    for chunk in (target[:, :1], target[:, 1:4], target[:, 4:]):
        found = run(decoder, {"input_ids": chunk, **always, **state})
        state |= {name: found[f"present.{name.split('.', 1)[1]}"] for name in state if "encoder" not in name}
        logits.append(found["logits"])
    atol = tolerance("onnx_logits") * np.abs(expected).max()
    np.testing.assert_allclose(np.concatenate(logits, axis=1), expected, rtol=0, atol=atol)
