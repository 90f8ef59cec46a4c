"""Operations are those of the graph, and a record tells their share of a measured peak."""

import pytest
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from tests.training import encoder
from tests.training.test_recomputation import MODELS, B, S, T, V
from tfzoo.models import GruSeq2Seq, LstmLanguageModel
from tfzoo.models.config import GruSeq2SeqConfig, LstmLmConfig
from tfzoo.training import utilisation
from tfzoo.training.utilisation import forward_flops

RECURRENT = {"vocabulary_size": V, "embedding_dim": 6, "hidden_dim": 10, "num_layers": 2, "max_sequence_length": T}


def gru(**changes):
    return lambda: GruSeq2Seq(GruSeq2SeqConfig(**RECURRENT | changes))


SUBJECTS = {
    **MODELS,
    "lstm_lm": lambda: LstmLanguageModel(LstmLmConfig(**RECURRENT)),
    "tied lstm_lm": lambda: LstmLanguageModel(LstmLmConfig(**RECURRENT, tie_embeddings=True)),
    "gru_seq2seq": gru(num_layers=1),
    "gru_seq2seq, one direction": gru(bidirectional=False),
    "gru_seq2seq, multiplicative": gru(attention="multiplicative", input_feeding=False),
    "gru_seq2seq, multiplicative, fed": gru(attention="multiplicative"),
    "gru_seq2seq, no attention": gru(attention="none", input_feeding=False),
    "gru_seq2seq, no attention, fed": gru(attention="none"),
}


def operations_of(model, names):
    """Multiplications and additions of all matrix products that a call runs, those in loops as often as they run."""
    found = []

    def count(kind, inputs, attributes, outputs, op_name=None, graph=None):
        if "MatMul" in tf.compat.as_str(kind):
            found.append(2 * outputs[0].shape.num_elements() * inputs[0].shape[-1])

    lengths = {"encoder_token_ids": S, "mask_positions": 5}
    values = {name: tf.ones((B, lengths.get(name, T)), tf.int32) for name in names}
    op_callbacks.add_op_callback(count)
    try:
        model(values)
    finally:
        op_callbacks.remove_op_callback(count)
    return sum(found)


@pytest.mark.parametrize(("subject", "num_scored"), [*((subject, None) for subject in SUBJECTS), ("bert", 5)])
def test_the_count_of_operations_is_that_of_the_products_that_are_run(subject, num_scored):
    model = SUBJECTS[subject]()
    names = [*model.input_signature(), *(["mask_positions"] if num_scored else [])]
    source_length = S if "encoder_token_ids" in names else 0
    counted = forward_flops(model.config, B, T, source_length=source_length, num_scored=num_scored)
    assert counted == operations_of(model, names)


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
