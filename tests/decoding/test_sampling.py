"""Random numbers and sampling: against Python's integers, and against the distributions they promise.

Seeds are fixed, so that no test fails by chance. Each chi-square bound is the statistic that a right sampler exceeds
once in ten thousand seeds.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests.decoding.table_model import TableModel, sources
from tfzoo.decoding import DecodingConfig, generate
from tfzoo.decoding.sampling import PRIME, ROUND_CONSTANTS, sample, uniform

pytestmark = pytest.mark.xdist_group("decoding")

# Degrees of freedom -> the value that chi-square exceeds with probability 1e-4.
CHI_SQUARE_BOUND = {3: 21.11, 4: 23.51, 8: 31.83, 20: 52.39, 99: 160.1, 255: 347.7}
LOGITS = np.array([0.3, -1.2, 2.0, 0.0, 1.1, -0.4, 0.9, 1.6, -0.1], np.float32)  # V = 9


def softmax(logits):
    weights = np.exp(np.asarray(logits, np.float64))
    return weights / weights.sum()


def chi_square(counts, probabilities):
    expected = np.asarray(probabilities) * np.sum(counts)
    assert expected.min() > 5, "too few draws for the approximation"
    return float((((counts - expected) ** 2) / expected).sum())


def draw(logits, num_draws, *, temperature=1.0, top_k=0, top_p=1.0, first_seed=0, step=0):
    """Draws from one distribution with consecutive seeds."""
    return sample(
        tf.tile(tf.constant(logits)[tf.newaxis], [num_draws, 1]),
        tf.fill([num_draws], temperature),
        tf.fill([num_draws], top_k),
        tf.fill([num_draws], top_p),
        tf.range(first_seed, first_seed + num_draws, dtype=tf.int64),
        tf.constant(step),
    ).numpy()


def uniforms(*keys):
    keys = np.broadcast_arrays(*(np.asarray(key, np.int64) for key in keys))
    return uniform(*(tf.constant(key) for key in keys)).numpy()


class TestUniform:
    def test_equals_python_integers(self):
        seeds = [0, 1, 2, 5, 1000, PRIME - 1, PRIME, 2**31, 2**40 + 3]
        steps = [0, 1, 511, 3, 0, 7, 7, 2, 1]

        def twin(*keys):
            mixed = 0
            for key in keys:
                mixed = (mixed + key) % PRIME
                for constant in ROUND_CONSTANTS:
                    mixed = pow(mixed + constant, 5, PRIME)
            return mixed

        expected = [np.float32(twin(*keys)) / np.float32(PRIME) for keys in zip(seeds, steps, strict=True)]
        assert uniforms(seeds, steps).tolist() == expected

    def test_the_rounds_are_a_permutation(self):
        # x -> x^5 has an inverse modulo p when 5 and p - 1 share no factor; p is prime (Mersenne, Euler 1772).
        assert PRIME == 2**31 - 1
        assert (PRIME - 1) % 5

    @pytest.mark.parametrize(
        "keys",
        [(np.arange(50_000), 0), (0, np.arange(50_000)), (np.arange(50_000) * 4096, 17), (123456, np.arange(50_000))],
        ids=["seeds", "steps", "spaced seeds", "steps of another seed"],
    )
    def test_is_uniform_and_uncorrelated_along_each_key(self, keys):
        numbers = uniforms(*keys)
        assert numbers.min() >= 0
        assert numbers.max() <= 1
        counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
        assert chi_square(counts, np.full(100, 0.01)) < CHI_SQUARE_BOUND[99]
        pairs, _, _ = np.histogram2d(numbers[0::2], numbers[1::2], bins=16, range=[(0, 1), (0, 1)])
        assert chi_square(pairs.ravel(), np.full(256, 1 / 256)) < CHI_SQUARE_BOUND[255]
        for lag in (1, 2, 5):
            correlation = np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]
            assert abs(correlation) < 4 / np.sqrt(len(numbers) - lag)  # four standard errors

    def test_neighbouring_seeds_make_unrelated_sequences(self):
        steps = np.arange(20_000)
        first, second = uniforms(7, steps), uniforms(8, steps)
        pairs, _, _ = np.histogram2d(first, second, bins=16, range=[(0, 1), (0, 1)])
        assert chi_square(pairs.ravel(), np.full(256, 1 / 256)) < CHI_SQUARE_BOUND[255]
        # Nor is one the other, shifted: the second key is not simply added to the first.
        assert not np.isin(uniforms(8, np.arange(100)), uniforms(7, np.arange(200))).any()


class TestSample:
    def test_follows_the_softmax(self):
        counts = np.bincount(draw(LOGITS, 20_000), minlength=9)
        assert chi_square(counts, softmax(LOGITS)) < CHI_SQUARE_BOUND[8]

    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_temperature_divides_the_logits(self, temperature):
        counts = np.bincount(draw(LOGITS, 20_000, temperature=temperature, first_seed=10**6), minlength=9)
        assert chi_square(counts, softmax(LOGITS / temperature)) < CHI_SQUARE_BOUND[8]
        assert chi_square(counts, softmax(LOGITS)) > 10 * CHI_SQUARE_BOUND[8]  # the bound does tell them apart

    def test_top_k_draws_among_the_likeliest_and_follows_what_is_left(self):
        counts = np.bincount(draw(LOGITS, 20_000, top_k=5), minlength=9)
        likeliest = np.argsort(-LOGITS)[:5]
        assert set(np.flatnonzero(counts)) == set(likeliest)
        assert chi_square(counts[likeliest], softmax(LOGITS[likeliest])) < CHI_SQUARE_BOUND[4]

    @pytest.mark.parametrize("top_k", [1, 2, 8, 9, 50])
    def test_top_k_support(self, top_k):
        assert set(draw(LOGITS, 3000, top_k=top_k)) == set(np.argsort(-LOGITS)[:top_k])

    @pytest.mark.parametrize("temperature", [0.7, 1.0])
    @pytest.mark.parametrize("top_p", [0.01, 0.3, 0.55, 0.8, 0.95, 1.0])
    @pytest.mark.parametrize("top_k", [0, 4])
    def test_top_p_draws_from_the_nucleus(self, top_k, top_p, temperature):
        """The smallest set of likeliest tokens that holds `top_p`, after temperature and top-k."""
        order = np.argsort(-LOGITS)[: top_k or None]
        probabilities = softmax(LOGITS[order] / temperature)
        size = 1
        while probabilities[:size].sum() < top_p - 1e-12 and size < len(order):
            size += 1
        assert (
            abs(probabilities[: size - 1].sum() - top_p) > 1e-3 or top_p == 1
        )  # not at the edge, where rounding rules
        nucleus = order[:size]
        drawn = draw(LOGITS, 4000, top_k=top_k, top_p=top_p, temperature=temperature)
        assert set(drawn) == set(nucleus)

    def test_top_p_follows_what_is_left(self):
        counts = np.bincount(draw(LOGITS, 20_000, top_p=0.8), minlength=9)
        nucleus = np.flatnonzero(counts)
        assert len(nucleus) == 4
        assert chi_square(counts[nucleus], softmax(LOGITS[nucleus])) < CHI_SQUARE_BOUND[3]

    def test_each_row_has_options_of_its_own(self):
        logits = tf.tile(tf.constant(LOGITS)[tf.newaxis], [4, 1])
        seeds = tf.range(4, dtype=tf.int64) + 40
        options = ([0.5, 1.0, 2.0, 1.0], [0, 3, 0, 1], [1.0, 0.7, 0.9, 1.0])
        together = sample(logits, *(tf.constant(option) for option in options), seeds, tf.constant(3)).numpy()
        alone = [
            draw(LOGITS, 1, temperature=t, top_k=k, top_p=p, first_seed=40 + i, step=3)[0]
            for i, (t, k, p) in enumerate(zip(*options, strict=True))
        ]
        assert together.tolist() == alone

    def test_a_token_of_no_probability_is_never_drawn(self):
        logits = np.where(np.arange(9) % 2 == 0, LOGITS, np.float32(-1e9))
        assert set(draw(logits, 3000)) == {0, 2, 4, 6, 8}
        assert set(draw(logits, 3000, top_k=8, top_p=0.999)) <= {0, 2, 4, 6, 8}

    def test_a_tiny_temperature_is_greedy(self):
        assert set(draw(LOGITS, 500, temperature=1e-4)) == {2}
        assert set(draw(LOGITS, 500, temperature=1e-37)) == {2}


class TestGenerate:
    CONFIG = DecodingConfig(max_length=8, temperature=1.0, seed=11)

    @pytest.fixture(scope="class")
    @staticmethod
    def model():
        return TableModel(5, end_bias=-0.5, seed=3)

    def test_equal_seeds_give_equal_tokens(self, model):
        inputs = {"encoder_token_ids": sources(6)}
        first, again = (generate(model, inputs, self.CONFIG) for _ in range(2))
        assert np.array_equal(first["token_ids"], again["token_ids"])
        assert np.array_equal(first["scores"], again["scores"])
        other = generate(model, inputs, DecodingConfig(max_length=8, temperature=1.0, seed=12))
        assert not np.array_equal(first["token_ids"], other["token_ids"])

    def test_a_row_does_not_depend_on_its_place(self, model):
        source = sources(6)
        order = np.array([3, 0, 5, 4, 1, 2])
        found, shuffled = (
            generate(model, {"encoder_token_ids": each}, self.CONFIG)["token_ids"].numpy()
            for each in (source, source[order])
        )
        assert np.array_equal(found[order], shuffled)

    def test_sequences_of_one_row_differ_and_the_first_is_the_only_one(self, model):
        inputs = {"encoder_token_ids": sources(3)}
        many = generate(model, inputs, DecodingConfig(max_length=8, temperature=1.0, seed=11, num_return_sequences=4))[
            "token_ids"
        ].numpy()
        assert many.shape == (12, 8)
        for row in range(3):
            assert len({tuple(each) for each in many[4 * row : 4 * row + 4]}) > 1
        for r in range(4):
            one = generate(model, inputs, DecodingConfig(max_length=8, temperature=1.0, seed=11 + r))["token_ids"]
            length = one.shape[1]
            assert np.array_equal(many[r::4, :length], one)
            assert not many[r::4, length:].any()

    def test_scores_are_log_probabilities_of_the_model(self, model):
        source = sources(6)
        found = generate(model, {"encoder_token_ids": source}, self.CONFIG)
        for row in range(6):
            tokens = found["token_ids"][row].numpy().tolist()
            length = tokens.index(2) + 1 if 2 in tokens else 8
            log_probs = model.next_log_probs(source[row])
            total = sum(log_probs(tuple(tokens[:i]))[tokens[i]] for i in range(length))
            penalty = ((5 + length) / 6) ** 0.6
            assert float(found["scores"][row]) == pytest.approx(total / penalty, abs=1e-5)
            assert not any(tokens[length:])

    def test_whole_sequences_follow_the_product_of_their_steps(self, model):
        """Also says that one step's random number tells nothing about the next one's."""
        source = sources(1)
        config = DecodingConfig(max_length=2, temperature=1.0, seed=0, num_return_sequences=20_000)
        token_ids = generate(model, {"encoder_token_ids": source}, config)["token_ids"].numpy()
        counts = np.zeros((5, 5))
        np.add.at(counts, (token_ids[:, 0], token_ids[:, 1]), 1)
        log_probs = model.next_log_probs(source[0])
        probabilities = np.array([np.exp(log_probs(())[a] + log_probs((a,))) for a in range(5)])
        assert counts[2, 1:].sum() == 0  # after the end token there is padding alone
        probabilities[2] = [np.exp(log_probs(())[2]), 0, 0, 0, 0]
        possible = probabilities > 0
        assert chi_square(counts[possible], probabilities[possible]) < CHI_SQUARE_BOUND[possible.sum() - 1]
