"""Operations are those of the graph, and a record tells their share of a measured peak."""

import pytest
import tensorflow as tf

from tests.training import encoder
from tests.training.test_recomputation import MODELS, B, S, T
from tfzoo.training import utilisation
from tfzoo.training.utilisation import forward_flops


@pytest.mark.parametrize(("family", "num_scored"), [("transformer", None), ("gpt2", None), ("bert", None), ("bert", 5)])
def test_the_count_of_operations_is_that_of_the_graph(family, num_scored):
    model = MODELS[family]()
    lengths = {"encoder_token_ids": S, "mask_positions": num_scored}
    names = [*model.input_signature(), *(["mask_positions"] if num_scored else [])]
    specs = {name: tf.TensorSpec((B, lengths.get(name, T)), tf.int32) for name in names}
    graph = tf.function(model, autograph=False).get_concrete_function(specs).graph
    operations = 0
    for node in graph.get_operations():
        if "MatMul" in node.type:
            operations += 2 * node.outputs[0].shape.num_elements() * node.inputs[0].shape[-1]
    source_length = S if family == "transformer" else 0
    counted = forward_flops(model.config, B, T, source_length=source_length, num_scored=num_scored)
    assert counted == operations


def test_a_record_has_the_share_of_the_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(utilisation, "peak_flops_per_second", {"float32": 1e6}.__getitem__)
    _, history = encoder.train(tmp_path, "fill_mask", num_steps=3, checkpoint_steps=3)
    # The steps of training alone, and not those of the validation.
    flops = 3 * 3 * forward_flops(encoder.new_model("fill_mask").config, encoder.BATCH, encoder.LENGTH, num_scored=2)
    assert history[0]["flops_utilisation"] == pytest.approx(flops / history[0]["seconds"] / 1e6)
    assert 1e8 < history[0]["peak_memory_bytes"] < 1e12


def test_the_peak_is_that_of_a_product_that_takes_its_time(monkeypatch):
    sizes = []

    def seconds(size, dtype, repetitions):
        sizes.append((size, dtype, repetitions))
        return 2 * size**3 / 1e11

    monkeypatch.setattr(utilisation, "product_seconds", seconds)
    assert utilisation.peak_flops_per_second.__wrapped__("bfloat16") == pytest.approx(1e11)
    assert sizes[0] == (128, "bfloat16", 1)
    assert sizes[-1] == (1024, "bfloat16", 3)  # 2 * 512 ** 3 / 1e11 = 2.7 ms
