"""The choice of tokens to predict: how many, which, and what stands in their place."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.data import encoders
from tfzoo.data.masking import NUM_NOISES, Masking

PAD, UNK, CLS, SEP, MASK = range(5)
FIRST, V = 5, 25  # of the plain tokens; 15 and above go on a word
T = 40


@pytest.fixture(scope="module")
def tokenizer():
    return encoders.tokenizer()


def _rows(num_rows, seed):
    """[CLS] tokens [SEP] and padding, of many lengths, with [UNK] among them."""
    generator = np.random.default_rng(seed)
    rows = np.full((num_rows, T), PAD, np.int32)
    for row in rows:
        length = generator.integers(1, T - 1)
        ids = generator.integers(FIRST, V, length)
        ids[generator.random(length) < 0.05] = UNK
        row[: length + 2] = [CLS, *ids, SEP]
    return rows


def _masked(tokenizer, rows, seed, **options):
    masking = Masking(tokenizer, **{"probability": 0.15, "whole_word": False, "max_predictions": 6, **options})
    noise = tf.random.stateless_uniform([len(rows), NUM_NOISES, T], [seed, 1], dtype=tf.float64)
    masked = masking(tf.constant(rows), noise)
    return [value.numpy() for value in (masked.token_ids, masked.positions, masked.labels, masked.weights)]


def _is_near(count, total, share):
    """Within 5 standard deviations of a binomial: false once in 1.7 million times."""
    return abs(count - total * share) < 5 * math.sqrt(total * share * (1 - share))


@pytest.mark.parametrize("whole_word", [False, True])
def test_the_chosen_tokens_are_the_labels_and_all_others_stay(tokenizer, whole_word):
    rows = _rows(200, 1)
    seen, positions, labels, weights = _masked(tokenizer, rows, 1, whole_word=whole_word)
    assert positions.shape == labels.shape == weights.shape == (200, 6)
    assert [value.dtype for value in (seen, positions, labels, weights)] == [np.int32] * 3 + [np.float32]
    for before, after, places, targets, row_weights in zip(rows, seen, positions, labels, weights, strict=True):
        count = int(row_weights.sum())
        np.testing.assert_array_equal(row_weights, [1] * count + [0] * (6 - count))
        assert sorted(set(places[:count])) == places[:count].tolist()
        np.testing.assert_array_equal(targets[:count], before[places[:count]])
        np.testing.assert_array_equal([*places[count:], *targets[count:]], 0)
        assert (targets[:count] >= FIRST).all()
        others = np.delete(np.arange(T), places[:count])
        np.testing.assert_array_equal(after[others], before[others])
        assert ((after == MASK) | (after >= FIRST) | (after == before)).all()


def test_a_row_has_its_share_chosen_rounded_and_at_least_one(tokenizer):
    rows = _rows(300, 2)
    weights = _masked(tokenizer, rows, 2)[-1]
    candidates = (rows >= FIRST).sum(axis=1)
    expected = np.minimum(np.maximum(np.floor(0.15 * candidates + 0.5), 1), candidates)
    assert len(set(expected)) == 7
    np.testing.assert_array_equal(weights.sum(axis=1), expected)
    few = _masked(tokenizer, rows, 2, probability=0.5, max_predictions=3)[-1]
    np.testing.assert_array_equal(few.sum(axis=1), np.minimum(np.floor(candidates / 2 + 0.5), 3))


def test_a_row_without_a_plain_token_has_none_chosen(tokenizer):
    rows = np.full((2, T), PAD, np.int32)
    rows[:, :3] = [CLS, UNK, SEP]
    for whole_word in (False, True):
        seen, positions, labels, weights = _masked(tokenizer, rows, 3, whole_word=whole_word)
        np.testing.assert_array_equal(seen, rows)
        assert not positions.any()
        assert not labels.any()
        assert not weights.any()


@pytest.mark.parametrize("whole_word", [False, True])
def test_of_the_chosen_80_percent_are_masked_10_are_random_and_10_stay(tokenizer, whole_word):
    rows = _rows(20_000, 4)
    seen, positions, labels, weights = _masked(tokenizer, rows, 4, whole_word=whole_word)
    is_chosen = weights > 0
    found = np.take_along_axis(seen, positions, axis=1)[is_chosen]
    labels = labels[is_chosen]
    total = len(found)
    assert total > 50_000
    num_plain = V - FIRST
    assert _is_near((found == MASK).sum(), total, 0.8)
    # One random token in `num_plain` is the token itself.
    assert _is_near(((found != MASK) & (found != labels)).sum(), total, 0.1 * (1 - 1 / num_plain))
    assert _is_near((found == labels).sum(), total, 0.1 + 0.1 / num_plain)
    random = found[(found != MASK) & (found != labels)]
    for token in range(FIRST, V):
        expected = (1 - (labels == token).mean()) / (num_plain - 1)
        assert _is_near((random == token).sum(), len(random), expected)


def test_every_place_is_chosen_as_often_as_every_other(tokenizer):
    rows = np.full((8000, T), FIRST, np.int32)
    rows[:, 0], rows[:, -1] = CLS, SEP
    _, positions, _, weights = _masked(tokenizer, rows, 5)
    counts = np.bincount(positions[weights > 0], minlength=T)
    assert counts[0] == counts[-1] == 0
    assert counts.sum() == 6 * 8000
    for count in counts[1:-1]:
        assert _is_near(count, 8000, 6 / (T - 2))


def test_pieces_of_a_word_are_chosen_together(tokenizer):
    rows = _rows(2000, 6)
    seen, positions, _, weights = _masked(tokenizer, rows, 6, whole_word=True)
    num_chosen = num_wanted = 0
    for row, places, row_weights in zip(rows, positions, weights, strict=True):
        chosen = set(places[row_weights > 0])
        words: list[list[int]] = []
        for place, token in enumerate(row):
            if token < FIRST:
                continue
            if token >= 15 and words and words[-1][-1] == place - 1:
                words[-1].append(place)
            else:
                words.append([place])
        for word in words:
            assert chosen.issuperset(word) or chosen.isdisjoint(word)
        wanted = max(1, int(0.15 * sum(map(len, words)) + 0.5)) if words else 0
        assert len(chosen) <= wanted
        # A word is passed over only when it is longer than what is left.
        left = wanted - len(chosen)
        assert all(len(word) > left for word in words if chosen.isdisjoint(word))
        num_chosen += len(chosen)
        num_wanted += wanted
    assert num_chosen > 0.9 * num_wanted
    assert not (seen == rows).all()


def test_the_choice_is_a_function_of_the_noise_and_of_nothing_else(tokenizer):
    rows = _rows(50, 7)
    for whole_word in (False, True):
        first = _masked(tokenizer, rows, 7, whole_word=whole_word)
        for one, other in zip(first, _masked(tokenizer, rows, 7, whole_word=whole_word), strict=True):
            np.testing.assert_array_equal(one, other)
        assert (first[1] != _masked(tokenizer, rows, 8, whole_word=whole_word)[1]).any()
