"""Greedy and beam search against searches in plain Python, and options by row."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.decoding.table_model import TableModel, sources
from tests.references import beam_search
from tests.tolerances import tolerance
from tfzoo.decoding import DecodingConfig, generate
from tfzoo.decoding.generate import IMPOSSIBLE, search
from tfzoo.errors import RecipeError, UsageError
from tfzoo.models import Transformer, TransformerConfig

pytestmark = pytest.mark.xdist_group("decoding")

END = 2  # of the table model
SEARCH = {
    "max_length": 6,
    "min_length": 0,
    "num_beams": 1,
    "length_penalty": 0.6,
    "repetition_penalty": 1.0,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "seed": 0,
}


def as_found(token_ids, scores, max_length, end_id=END):
    """The (score, tokens) pairs of one row, cut behind the end token or at its limit; what follows must be padding."""
    found = []
    for sequence, score in zip(np.array(token_ids), np.array(scores), strict=True):
        if score <= IMPOSSIBLE / 2:
            assert score == np.float32(IMPOSSIBLE)
            assert not sequence.any()
            continue
        tokens = sequence.tolist()
        length = tokens.index(end_id) + 1 if end_id in tokens else max_length
        assert not any(tokens[length:])
        found.append((float(score), tuple(tokens[:length])))
    return found


def assert_same(found, expected):
    assert [tokens for _, tokens in found] == [tokens for _, tokens in expected]
    np.testing.assert_allclose(
        [score for score, _ in found], [score for score, _ in expected], rtol=0, atol=tolerance("numpy_parity")
    )


@pytest.fixture(scope="module")
def table_model():
    return TableModel(5, end_bias=0.7, seed=1)


@pytest.fixture(scope="module")
def transformer():
    """Random weights under which greedy search over `SOURCE` ends after 2, 8, 6 and 3 tokens."""
    config = TransformerConfig(
        vocabulary_size=11,
        hidden_dim=12,
        intermediate_dim=20,
        num_layers=2,
        num_heads=3,
        max_sequence_length=9,
        normalize_first=True,
    )
    model = Transformer(config)
    generator = np.random.default_rng(35)
    for variable in model.trainable_variables:
        spread = 0.5 if "kernel" in variable.path else 0.3
        variable.assign(generator.normal(0, spread, variable.shape) + ("gamma" in variable.path))
    return model


def forward_log_probs(model, source):
    """The whole forward for each prefix of one (S,) source, in memory of what was asked before."""

    @functools.cache
    def log_probs(prefix):
        tokens = np.array([[model.config.start_id, *prefix]], np.int32)
        logits = model({"encoder_token_ids": source[np.newaxis], "decoder_token_ids": tokens}).numpy()
        logits = logits[0, -1].astype(np.float64)
        return logits - np.log(np.exp(logits).sum())

    return log_probs


class TestTransformer:
    """The real model: its cache must follow its hypotheses."""

    SOURCE = np.array([[9, 4, 8, 5, 3], [7, 7, 3, 0, 0], [4, 10, 6, 3, 0], [5, 8, 8, 9, 3]], np.int32)

    def test_greedy_is_argmax_over_the_whole_forward(self, transformer):
        found = generate(transformer, {"encoder_token_ids": self.SOURCE}, DecodingConfig(max_length=8))
        assert found["token_ids"].dtype == tf.int32
        lengths = []
        for row, source in enumerate(self.SOURCE):
            expected = beam_search.greedy(forward_log_probs(transformer, source), 3, 8, 0.6)
            assert_same(
                as_found(found["token_ids"][row : row + 1], found["scores"][row : row + 1], 8, end_id=3), expected
            )
            lengths.append(len(expected[0][1]))
        assert lengths == [2, 8, 6, 3]

    @pytest.mark.parametrize("num_beams", [2, 4])
    def test_beams_carry_their_caches(self, transformer, num_beams):
        config = DecodingConfig(max_length=6, num_beams=num_beams, num_return_sequences=num_beams)
        found = generate(transformer, {"encoder_token_ids": self.SOURCE}, config)
        assert found["scores"].shape == (len(self.SOURCE) * num_beams,)
        for row, source in enumerate(self.SOURCE):
            rows = slice(row * num_beams, (row + 1) * num_beams)
            expected = beam_search.beam(forward_log_probs(transformer, source), 3, 6, num_beams, 0.6)
            assert_same(as_found(found["token_ids"][rows], found["scores"][rows], 6, end_id=3), expected)


class TestExhaustive:
    """With a beam for each of the 121 sequences of at most 4 tokens out of 4, beam search loses none."""

    @pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
    def test_a_beam_wide_enough_finds_every_sequence_in_order(self, length_penalty):
        model = TableModel(4, end_bias=0.5, seed=2)
        source = sources(4)
        options = SEARCH | {"max_length": 4, "num_beams": 121, "length_penalty": length_penalty}
        found = search(model, {"encoder_token_ids": source}, **options)
        for row in range(len(source)):
            expected = beam_search.exhaustive(model.next_log_probs(source[row]), END, 4, length_penalty)
            assert len(expected) == 121
            assert_same(as_found(found["token_ids"][row], found["scores"][row], 4), expected)

    def test_the_penalty_decides_between_lengths(self):
        model = TableModel(4, end_bias=0.5, seed=2)
        source = sources(20)
        best = {
            penalty: search(
                model,
                {"encoder_token_ids": source},
                **SEARCH | {"max_length": 4, "num_beams": 64, "length_penalty": penalty},
            )["token_ids"][:, 0]
            for penalty in (0.0, 2.0)
        }
        lengths = {}
        for penalty, token_ids in best.items():
            expected = [beam_search.exhaustive(model.next_log_probs(row), END, 4, penalty)[0][1] for row in source]
            assert [tuple(row[: len(one)]) for row, one in zip(token_ids.numpy(), expected, strict=True)] == expected
            lengths[penalty] = [len(one) for one in expected]
        assert set(lengths[0.0]) >= {1, 2, 3}  # hypotheses of several lengths win
        assert sum(lengths[2.0]) > sum(lengths[0.0])


class TestBeam:
    @pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.5])
    @pytest.mark.parametrize("num_beams", [1, 2, 3, 5])
    def test_equals_plain_python(self, table_model, num_beams, length_penalty):
        source = sources(16)
        options = SEARCH | {"max_length": 7, "num_beams": num_beams, "length_penalty": length_penalty}
        found = search(table_model, {"encoder_token_ids": source}, **options)
        assert found["token_ids"].shape[:2] == found["scores"].shape == (16, num_beams)
        for row in range(len(source)):
            expected = beam_search.beam(table_model.next_log_probs(source[row]), END, 7, num_beams, length_penalty)
            assert_same(as_found(found["token_ids"][row], found["scores"][row], 7), expected)

    def test_one_beam_is_greedy(self, table_model):
        source = sources(16)
        found = search(table_model, {"encoder_token_ids": source}, **SEARCH)
        for row in range(len(source)):
            expected = beam_search.greedy(table_model.next_log_probs(source[row]), END, 6, 0.6)
            assert_same(as_found(found["token_ids"][row], found["scores"][row], 6), expected)

    def test_fewer_sequences_than_beams(self):
        model = TableModel(4)
        source = sources(3)
        found = search(model, {"encoder_token_ids": source}, **SEARCH | {"max_length": 1, "num_beams": 6})
        for row in range(3):
            expected = beam_search.exhaustive(model.next_log_probs(source[row]), END, 1, 0.6)
            assert len(expected) == 4
            assert_same(as_found(found["token_ids"][row], found["scores"][row], 1), expected)

    @pytest.mark.parametrize("num_beams", [1, 3])
    @pytest.mark.parametrize("change", [{"min_length": 4}, {"repetition_penalty": 1.7}, {"repetition_penalty": 0.4}])
    def test_reweighted_tokens_equal_plain_python(self, table_model, num_beams, change):
        source = sources(16)
        found = search(table_model, {"encoder_token_ids": source}, **SEARCH | {"num_beams": num_beams} | change)
        plain = search(table_model, {"encoder_token_ids": source}, **SEARCH | {"num_beams": num_beams})
        assert not np.array_equal(found["token_ids"], plain["token_ids"])
        for row in range(len(source)):
            log_probs = table_model.next_log_probs(source[row], **change)
            expected = beam_search.beam(log_probs, END, 6, num_beams, 0.6)
            assert_same(as_found(found["token_ids"][row], found["scores"][row], 6), expected)

    @pytest.mark.parametrize("change", [{"num_beams": 3}, {"temperature": 1.2}])
    def test_log_probs_are_those_of_each_token(self, table_model, change):
        source = sources(7)
        found = search(table_model, {"encoder_token_ids": source}, **SEARCH | change)
        for row in range(len(source)):
            log_probs = table_model.next_log_probs(source[row])
            for rank, (score, tokens) in enumerate(as_found(found["token_ids"][row], found["scores"][row], 6)):
                each = [log_probs(tokens[:i])[token] for i, token in enumerate(tokens)]
                given = found["log_probs"][row, rank].numpy()
                np.testing.assert_allclose(given[: len(tokens)], each, rtol=0, atol=tolerance("numpy_parity"))
                assert not given[len(tokens) :].any()
                assert score == pytest.approx(sum(each) / ((5 + len(tokens)) / 6) ** 0.6, abs=tolerance("numpy_parity"))

    def test_generate_returns_the_best_of_each_row_together(self, table_model):
        inputs = {"encoder_token_ids": sources(3)}
        config = DecodingConfig(max_length=6, num_beams=4, num_return_sequences=2)
        every = search(table_model, inputs, **SEARCH | {"num_beams": 4})
        found = generate(table_model, inputs, config)
        assert np.array_equal(found["token_ids"], every["token_ids"].numpy()[:, :2].reshape(6, -1))
        assert np.array_equal(found["scores"], every["scores"].numpy()[:, :2].reshape(6))


OPTIONS_BY_ROW = 3 * (
    {"num_beams": 1, "max_length": 7},
    {"num_beams": 3, "max_length": 4},
    {"num_beams": 2, "max_length": 6, "length_penalty": 0.0},
    {"num_beams": 5, "max_length": 7, "length_penalty": 2.0},
    {"num_beams": 2, "max_length": 7, "length_penalty": 3.0},  # stopping early loses better ones, and must
    {"num_beams": 1, "max_length": 1},
    {"num_beams": 4, "max_length": 5, "temperature": 0.8, "seed": 3},
    {"num_beams": 2, "max_length": 7, "temperature": 1.5, "top_k": 3, "seed": 4},
    {"num_beams": 2, "max_length": 7, "temperature": 1.5, "top_p": 0.6, "seed": 4},
    {"num_beams": 2, "max_length": 7},
    {"num_beams": 2, "max_length": 7, "min_length": 3},
    {"num_beams": 3, "max_length": 7, "repetition_penalty": 1.5},
    {"num_beams": 1, "max_length": 7, "temperature": 1.5, "repetition_penalty": 3.0, "min_length": 5},
)


@pytest.fixture(scope="module")
def mixed(table_model):
    """Options of each row, their sources, and what one search over all of them finds."""
    rows = [SEARCH | each for each in OPTIONS_BY_ROW]
    source = sources(len(rows))
    options = {name: tf.constant([row[name] for row in rows]) for name in SEARCH}
    return rows, source, search(table_model, {"encoder_token_ids": source}, **options)


class TestOptionsByRow:
    def test_a_row_gets_what_it_gets_alone(self, table_model, mixed):
        rows, source, found = mixed
        assert found["token_ids"].shape[1] == 5
        for i, options in enumerate(rows):
            alone = search(table_model, {"encoder_token_ids": source[i : i + 1]}, **options)
            kept = 1 if options["temperature"] else options["num_beams"]
            expected = as_found(alone["token_ids"][0, :kept], alone["scores"][0, :kept], options["max_length"])
            assert_same(
                as_found(found["token_ids"][i, :kept], found["scores"][i, :kept], options["max_length"]), expected
            )

    def test_what_a_row_did_not_ask_for_is_empty(self, mixed):
        rows, _, found = mixed
        for i, options in enumerate(rows):
            kept = 1 if options["temperature"] else options["num_beams"]
            assert (found["scores"][i, kept:].numpy() == np.float32(IMPOSSIBLE)).all()
            assert not found["token_ids"][i, kept:].numpy().any()

    def test_one_trace_serves_every_batch_length_and_option(self, table_model, mixed):
        rows, source, expected = mixed
        traces = []
        integer, number = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        specs = {name: number if isinstance(value, float) else integer for name, value in SEARCH.items()}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), specs])
        def graph(source, options):
            traces.append(1)
            return search(table_model, {"encoder_token_ids": source}, **options)

        options = {name: tf.constant([row[name] for row in rows]) for name in SEARCH}
        found = graph(source, options)
        assert np.array_equal(found["token_ids"], expected["token_ids"])
        np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=tolerance("numpy_parity"))

        short = {name: value[1:3] for name, value in options.items()}
        alone = search(table_model, {"encoder_token_ids": source[1:3, :2]}, **short)
        assert np.array_equal(graph(source[1:3, :2], short)["token_ids"], alone["token_ids"])
        assert len(traces) == 1


class TestLimits:
    def test_generate_refuses_more_tokens_than_positions(self, table_model):
        with pytest.raises(UsageError) as error:
            generate(table_model, {"encoder_token_ids": sources(1)}, DecodingConfig(max_length=13))
        assert str(error.value) == (
            "`max_length` must not exceed the model's `max_sequence_length`; received max_length=13, "
            "max_sequence_length=12."
        )

    def test_a_row_stops_at_the_last_position(self):
        model = TableModel(5, end_bias=-99.0)
        found = search(model, {"encoder_token_ids": sources(2)}, **SEARCH | {"max_length": tf.constant([50, 3])})
        assert found["token_ids"].shape == (2, 1, 12)
        assert not found["token_ids"][1, 0, 3:].numpy().any()
        for row, length in enumerate((12, 3)):
            ((_, tokens),) = as_found(found["token_ids"][row], found["scores"][row], length)
            assert len(tokens) == length

    def test_no_rows(self, table_model):
        found = generate(table_model, {"encoder_token_ids": sources(0)}, DecodingConfig(max_length=3, num_beams=2))
        assert found["scores"].shape == (0,)
        assert found["token_ids"].shape[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_length": 0}, "`max_length` must be at least 1; received max_length=0."),
        ({"num_beams": 0}, "`num_beams` must be at least 1; received num_beams=0."),
        ({"min_length": -1}, "`min_length` must be at least 0; received min_length=-1."),
        (
            {"min_length": 9, "max_length": 9},
            "`min_length` must be below `max_length`, which counts the end token; received min_length=9, max_length=9.",
        ),
        (
            {"repetition_penalty": 0.0},
            "`repetition_penalty` must be a finite number above 0; received repetition_penalty=0.0.",
        ),
        ({"top_k": -1}, "`top_k` must be at least 0; received top_k=-1."),
        ({"top_p": 0.0}, "`top_p` must be in (0, 1]; received top_p=0.0."),
        ({"top_p": 1.1}, "`top_p` must be in (0, 1]; received top_p=1.1."),
        ({"temperature": -0.1}, "`temperature` must be a finite number, at least 0; received temperature=-0.1."),
        (
            {"length_penalty": -1.0},
            "`length_penalty` must be a finite number, at least 0; received length_penalty=-1.0.",
        ),
        (
            {"temperature": 0.7, "num_beams": 2},
            "sampling keeps one hypothesis: set `temperature=0` for beam search or `num_beams=1` to sample; "
            "received temperature=0.7, num_beams=2.",
        ),
        (
            {"num_return_sequences": 3, "num_beams": 2},
            "`num_return_sequences` must not exceed `num_beams` when searching; received num_return_sequences=3, "
            "num_beams=2.",
        ),
        ({"temperature": float("nan")}, "`temperature` must be a finite number, at least 0; received temperature=nan."),
        ({"seed": 2**31}, "`seed` must be below 2**31; received seed=2147483648."),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_options_that_contradict_are_refused(change, message):
    with pytest.raises(RecipeError) as error:
        dataclasses.replace(DecodingConfig(), **change)
    assert str(error.value) == message
