"""What is measured and what decides, by name."""

import doctest

import pytest

from tfzoo.errors import RecipeError
from tfzoo.training import measures
from tfzoo.training.measures import best_record, check_monitor, check_smoothing

HISTORY = [
    {"step": 10, "loss": 0.9, "accuracy": 0.6, "val_loss": 0.8, "val_accuracy": 0.5},
    {"step": 20, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.7, "val_accuracy": 0.7},
    {"step": 30, "loss": 0.2, "accuracy": 0.9, "val_loss": 0.6, "val_accuracy": 0.7},
    {"step": 40, "loss": 0.1, "accuracy": 1.0, "val_loss": 0.9, "val_accuracy": 0.6},
]


def test_docstring_numbers():
    results = doctest.testmod(measures)
    assert results.attempted == 3
    assert results.failed == 0


@pytest.mark.parametrize(("monitor", "step"), [("", 20), ("accuracy", 20), ("loss", 30)])
def test_accuracy_should_rise_and_loss_fall(monitor, step):
    assert best_record(HISTORY, monitor)["step"] == step


def test_without_validation_training_decides():
    history = [{name: value for name, value in record.items() if "val_" not in name} for record in HISTORY]
    assert best_record(history)["step"] == best_record(history, "loss")["step"] == 40


def test_nats_decide_over_a_language_model_and_loss_where_nothing_else_is_measured():
    history = [{"step": 1, "loss": 1.0, "nats_per_token": 2.0}, {"step": 2, "loss": 2.0, "nats_per_token": 1.0}]
    assert best_record(history)["step"] == 2
    numbers = [{"step": 1, "loss": 2.0, "pearson": 0.9}, {"step": 2, "loss": 1.0, "pearson": 0.5}]
    assert (best_record(numbers)["step"], best_record(numbers, "pearson")["step"]) == (2, 1)


def test_what_is_not_measured_is_refused_with_the_names():
    names = measures.measures("text_classification")
    check_monitor("", names)
    check_monitor("accuracy", names)
    message = "`monitor` must be one of loss, accuracy, without val_; received monitor='val_accuracy'. Did you mean"
    with pytest.raises(RecipeError, match=message):
        check_monitor("val_accuracy", names)


@pytest.mark.parametrize("task", ["question_answering", "text_embedding"])
def test_only_classes_are_smoothed(task):
    check_smoothing(0.1, "text_classification")
    check_smoothing(0.1, "text_classification", "multi_label")
    check_smoothing(0.0, task)
    with pytest.raises(RecipeError, match=f"`label_smoothing` must be 0 for '{task}'.*received label_smoothing=0.1."):
        check_smoothing(0.1, task)
    with pytest.raises(RecipeError, match="`label_smoothing` must be 0 for 'regression'"):
        check_smoothing(0.1, "text_classification", "regression")
