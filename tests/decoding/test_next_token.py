"""The next token in NumPy against the same in TensorFlow."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.decoding.table_model import TableModel, sources
from tfzoo.decoding import DecodingConfig, generate
from tfzoo.decoding.next_token import next_token, uniform
from tfzoo.decoding.sampling import uniform as uniform_in_graph

pytestmark = pytest.mark.xdist_group("decoding")


def test_random_numbers_are_those_of_the_graph():
    for seed, step in ((0, 0), (7, 3), (2**31 - 1, 200)):
        keys = (tf.constant([seed], tf.int64), tf.constant([step], tf.int64))
        assert uniform(seed, step) == uniform_in_graph(*keys).numpy()[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_length": 4},
        {"repetition_penalty": 1.8},
        {"temperature": 1.0, "seed": 5},
        {"temperature": 1.4, "top_k": 3, "seed": 6},
        {"temperature": 1.4, "top_p": 0.6, "seed": 7},
        {"temperature": 0.8, "top_k": 4, "top_p": 0.9, "seed": 8, "repetition_penalty": 0.5, "min_length": 2},
    ],
    ids=str,
)
def test_a_loop_of_single_tokens_gives_what_generate_gives(options):
    model = TableModel(7, end_bias=0.5, seed=4)
    config = DecodingConfig(max_length=8, **options)
    found, plain = set(), set()
    for row in sources(25):
        inputs = {"encoder_token_ids": row[np.newaxis]}
        expected = generate(model, inputs, config)["token_ids"].numpy()[0].tolist()
        state, ids = model.start(inputs), [model.config.start_id]
        while len(ids) <= config.max_length and model.config.end_id not in ids:
            logits, state = model.step(np.array([ids[-1:]], np.int32), state)
            ids.append(next_token(logits.numpy()[0, -1], config, {*ids}, len(ids) - 1, model.config.end_id))
        assert ids[1:] + [0] * (len(expected) - len(ids) + 1) == expected
        found.add(tuple(expected))
        plain.add(tuple(generate(model, inputs, DecodingConfig(max_length=8))["token_ids"].numpy()[0].tolist()))
    assert not options or found != plain  # the option did something


def test_logits_are_not_changed_in_place():
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    config = dataclasses.replace(DecodingConfig(), repetition_penalty=9.0)
    assert next_token(logits, config, {2}, 0, 0) == 1
    assert logits.tolist() == [1.0, 2.0, 3.0]
