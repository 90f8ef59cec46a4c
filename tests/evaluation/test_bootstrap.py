"""Intervals: of the right width, the same in every run, and of what is defined alone."""

import numpy as np
import pytest

from tfzoo.evaluation import bootstrap
from tfzoo.evaluation.bootstrap import count, with_intervals


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(size=2000)
    found = with_intervals(lambda draws: {"mean": values[draws].mean(axis=1)}, 2000)
    assert found["mean"] == values.mean()
    low, high = found["mean_interval"]
    deviation = values.std() / np.sqrt(2000)
    # A percentile of 1,000 draws is itself off by about 0.09 deviations.
    assert low == pytest.approx(values.mean() - 1.96 * deviation, abs=0.2 * deviation)
    assert high == pytest.approx(values.mean() + 1.96 * deviation, abs=0.2 * deviation)


def test_intervals_cover_the_truth_nineteen_times_in_twenty():
    generator = np.random.default_rng(2)
    num_covered = 0
    for _ in range(200):
        is_right = generator.random(300) < 0.7
        low, high = with_intervals(lambda draws, one=is_right: {"share": one[draws].mean(axis=1)}, 300)[
            "share_interval"
        ]
        num_covered += low <= 0.7 <= high
    assert 177 <= num_covered <= 200  # 190 expected; four standard deviations


def test_the_same_examples_give_the_same_interval():
    values = np.arange(50.0)

    def scores():
        return with_intervals(lambda draws: {"mean": values[draws].mean(axis=1)}, 50)

    assert scores() == scores()


def test_draws_are_a_thousand_and_come_in_parts_when_there_are_many_examples(monkeypatch):
    monkeypatch.setattr(bootstrap, "_MAX_VALUES", 7 * 100)
    shapes = []

    def statistic(draws):
        shapes.append(draws.shape)
        assert draws.min() >= 0
        assert draws.max() < 100
        return {"mean": draws.mean(axis=1)}

    with_intervals(statistic, 100)
    assert shapes == [(7, 100)] * 142 + [(6, 100), (1, 100)]


def test_what_is_not_defined_is_none():
    assert with_intervals(lambda draws: {"x": np.full(len(draws), np.nan)}, 3) == {"x": None, "x_interval": None}
    found = with_intervals(lambda draws: {"x": np.where(draws[:, 0] == 0, np.nan, 2.0)}, 3)
    assert found == {"x": None, "x_interval": [2.0, 2.0]}


def test_counts_are_of_each_draw():
    draws = np.array([[0, 0, 1], [2, 1, 2]])
    np.testing.assert_array_equal(count(draws, np.array([1, 0, 1]), 3), [[1, 2, 0], [1, 2, 0]])
