"""The paper's learning rate, number for number."""

import doctest

import keras
import pytest

from tfzoo.training import TrainingConfig, schedules
from tfzoo.training.schedules import InverseSquareRoot, build_schedule, build_teacher_forcing


def config(**changes):
    return TrainingConfig(
        **{"num_steps": 40, "checkpoint_steps": 10, "learning_rate": 0.5, "warmup_steps": 8} | changes
    )


def test_docstring_numbers():
    results = doctest.testmod(schedules)
    assert results.attempted == 4
    assert results.failed == 0


@pytest.mark.parametrize("hidden_dim", [512, 1024])
@pytest.mark.parametrize("step_num", [1, 2, 399, 400, 401, 6400])
def test_equals_equation_3_of_the_paper(hidden_dim, step_num):
    warmup_steps = 400
    schedule = InverseSquareRoot((hidden_dim * warmup_steps) ** -0.5, warmup_steps)
    expected = hidden_dim**-0.5 * min(step_num**-0.5, step_num * warmup_steps**-1.5)
    assert float(schedule(step_num - 1)) == pytest.approx(expected, rel=1e-6)


def test_config_names_the_peak():
    rates = [float(build_schedule(config())(step)) for step in range(40)]
    assert max(rates) == rates[7] == 0.5
    assert rates[31] == 0.25


def test_cosine_is_keras_own():
    schedule = build_schedule(config(schedule="cosine"))
    assert type(schedule) is keras.optimizers.schedules.CosineDecay
    assert float(schedule(4)) == pytest.approx(0.25)
    assert float(schedule(8)) == pytest.approx(0.5)
    assert float(schedule(24)) == pytest.approx(0.25)
    assert float(schedule(40)) == pytest.approx(0, abs=1e-8)


def test_cosine_without_warmup_starts_at_the_peak():
    schedule = build_schedule(config(schedule="cosine", warmup_steps=0))
    assert [float(schedule(step)) for step in (0, 20)] == pytest.approx([0.5, 0.25])


def test_teacher_forcing_is_a_number_or_falls_by_batches():
    assert build_teacher_forcing(config()) == 1
    assert build_teacher_forcing(config(teacher_forcing_schedule="linear")) == 1
    assert build_teacher_forcing(config(teacher_forcing_ratio=0.25)) == 0.25
    linear = {"teacher_forcing_ratio": 0.25, "teacher_forcing_schedule": "linear", "accumulation_steps": 2}
    schedule = build_teacher_forcing(config(**linear))  # 40 steps are 80 batches
    assert [float(schedule(batch)) for batch in (0, 20, 80, 99)] == pytest.approx([1, 0.8125, 0.25, 0.25])


def test_linear_ends_at_zero_behind_the_last_step():
    schedule = build_schedule(config(schedule="linear"))
    rates = [float(schedule(step)) for step in range(41)]
    expected = [0.5 * min(n / 8, 1.0, (41 - n) / 32) for n in range(1, 42)]
    assert rates == pytest.approx(expected, rel=1e-6)
    assert (rates[7], rates[8], rates[39], rates[40]) == (0.5, 0.5, 0.5 / 32, 0.0)
    assert float(schedule(45)) == 0  # a run that went on beyond its steps does not climb


def test_linear_without_warmup_starts_at_the_peak():
    schedule = build_schedule(config(schedule="linear", warmup_steps=0))
    assert [float(schedule(step)) for step in (0, 10, 40)] == pytest.approx([0.5, 0.375, 0.0])


@pytest.mark.parametrize("name", ["inverse_sqrt", "cosine", "linear"])
def test_serialization(name):
    schedule = build_schedule(config(schedule=name))
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(again(step)) for step in (0, 5, 30)] == [float(schedule(step)) for step in (0, 5, 30)]
