"""`fit` for every task: what it records, that it learns, and that it resumes with the same bits."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from tests.training import encoder
from tests.training.comparison import TIMES, assert_same_checkpoints, saved_state, without_times
from tfzoo.errors import RecipeError
from tfzoo.training import checkpoints, fit
from tfzoo.training.measures import best_record, measures
from tfzoo.training.objectives import objective

TASKS = tuple(encoder.TASKS)
RATES = {"tokens_per_second", "examples_per_second"}
# All that a fine-tuning has: dropout is on in `encoder.CONFIG`, the schedule is linear.
FINE_TUNING = {"layer_decay": 0.8, "weight_decay": 0.1, "learning_rate": 0.01}


def names(task):
    fields = {"task": "text_classification", "problem": "single_label", "next_sentence": False} | encoder.TASKS[task]
    return measures(fields["task"], fields["problem"], fields["next_sentence"])


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory):
    """A task, and four steps of it: the run folder, the model, its history."""
    run_dir = tmp_path_factory.mktemp(request.param)
    return request.param, run_dir, *encoder.train(run_dir, request.param, **FINE_TUNING)


def test_records(trained):
    task, _, _, history = trained
    measured = names(task)
    per_token = task in ("token_classification", "fill_mask", "next_sentence")
    rate = "tokens_per_second" if per_token else "examples_per_second"
    others = {"step", "learning_rate", "gradient_norm", "padding_share", rate, *TIMES - RATES}
    assert [set(record) for record in history] == [{*measured, *(f"val_{name}" for name in measured), *others}] * 2
    batches = [encoder.batch(task, step) for step in (2, 3)]
    if per_token:
        weights = [batch[2]["logits"] if task == "next_sentence" else batch[2] for batch in batches]
        expected = sum(float(weight.sum()) for weight in weights)
    else:
        expected = 2 * encoder.BATCH
    assert history[1][rate] * history[1]["seconds"] == pytest.approx(expected)
    for record in history:
        if "perplexity" in record:
            assert record["val_perplexity"] == math.exp(record["val_nats_per_token"])


def test_validation_equals_numpy(trained):
    """What the newest weights score, by the definitions, over both batches at once."""
    task, _, model, history = trained
    values, weights = {name: [] for name in names(task)}, []
    for seed in (100, 101):
        inputs, labels, weight = encoder.batch(task, seed)
        logits = model(inputs)
        if task == "next_sentence":
            hits = np.argmax(logits["next_sentence_logits"], -1) == labels["next_sentence_logits"]
            values["next_sentence_accuracy"].append(np.average(hits, weights=weight["next_sentence_logits"]))
            logits, labels, weight = logits["logits"], labels["logits"], weight["logits"]
        logits = np.asarray(logits, np.float64)
        if task == "multi_label":
            score = ((logits > 0) == (labels > 0.5)).mean(axis=-1)
        elif task == "regression":
            score = np.square(logits[:, 0] - labels)
        elif task == "text_embedding":
            half = encoder.BATCH // 2
            cosines = logits[:half] @ logits[half:].T
            score = np.concatenate([cosines.argmax(1), cosines.argmax(0)]) == np.tile(np.arange(half), 2)
        else:
            score = logits.argmax(axis=-1) == labels
        values[next(name for name in values if "accuracy" in name or task == "regression")].append(score)
        weights.append(weight)
    score = "loss" if task == "regression" else next(name for name in values if "accuracy" in name)
    if task == "regression":
        # The reported loss is the mean over batches of equal size, each by its weights.
        per_batch = [np.average(value, weights=weight) for value, weight in zip(values["loss"], weights, strict=True)]
        assert history[-1]["val_loss"] == pytest.approx(np.mean(per_batch), rel=1e-5)
        return
    expected = np.average(np.concatenate(values[score]), weights=np.concatenate(weights))
    assert history[-1][f"val_{score}"] == pytest.approx(expected, rel=1e-5)
    if task == "next_sentence":
        sums = [encoder.batch(task, seed)[2]["next_sentence_logits"].sum() for seed in (100, 101)]
        expected = np.average(values["next_sentence_accuracy"], weights=sums)
        assert history[-1]["val_next_sentence_accuracy"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("trained", ["text_classification", "next_sentence", "text_embedding"], indirect=True)
def test_two_and_two_steps_equal_four(trained, tmp_path):
    task, run_dir, _, history = trained
    stopped_at_2(tmp_path, task)
    _, resumed = encoder.train(tmp_path, task, encoder.new_model(task, seed=99), **FINE_TUNING)
    assert without_times(resumed) == without_times(history)
    assert_same_checkpoints(run_dir, tmp_path)


def stopped_at_2(run_dir, task, **changes):
    """Trains until the first checkpoint, as a run that is killed behind it."""

    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "prune", kill)
        with pytest.raises(Killed):
            encoder.train(run_dir, task, **FINE_TUNING | changes)
    assert checkpoints.steps(run_dir) == [2]


@pytest.mark.parametrize(
    ("task", "features"),
    [
        ("next_sentence", {"accumulation_steps": 2, "ema_decay": 0.5}),
        ("text_classification", {"lora_rank": 2, "ema_decay": 0.5, "accumulation_steps": 2}),
        ("text_classification", {"frozen_layers": 1, "ema_decay": 0.5}),
    ],
    ids=["accumulation", "lora", "frozen"],
)
def test_a_run_with_features_resumes(tmp_path, task, features):
    _, history = encoder.train(tmp_path / "one", task, **FINE_TUNING | features)
    stopped_at_2(tmp_path / "two", task, **features)
    model = encoder.new_model(task, seed=99)
    _, resumed = encoder.train(tmp_path / "two", task, model, **FINE_TUNING | features)
    assert without_times(resumed) == without_times(history)
    assert_same_checkpoints(tmp_path / "one", tmp_path / "two")
    assert any(name.startswith("lora/") for name in saved_state(tmp_path / "one", 4)) == ("lora_rank" in features)


@pytest.mark.parametrize("task", ["multi_label", "next_sentence", "regression"])
def test_accumulated_batches_equal_one_large_batch(tmp_path, task):
    """Of each output by its own weights, which differ from batch to batch."""
    num_batches, numbers = 3, {"num_steps": 2, "checkpoint_steps": 1, "epsilon": 1.0, "learning_rate": 10.0}

    def together(start_step):
        joined = encoder.batches(task, range(6)).batch(num_batches)
        join = lambda one: tf.reshape(one, [-1, *one.shape[2:]])  # noqa: E731
        return joined.map(lambda *batch: tf.nest.map_structure(join, batch)).skip(start_step)

    def trained(run_dir, dataset, **changes):
        model = encoder.new_model(task, config=dataclasses.replace(encoder.CONFIG, dropout=0.0))
        return model, fit(model, dataset, encoder.config(**numbers | changes), run_dir, verbose=0)

    large, expected = trained(tmp_path / "one", together)
    small, history = trained(tmp_path / "several", encoder.train_dataset(task, 6), accumulation_steps=num_batches)
    start = encoder.new_model(task, config=dataclasses.replace(encoder.CONFIG, dropout=0.0))
    moves = []
    for before, one, several in zip(start.weights, large.weights, small.weights, strict=True):
        np.testing.assert_allclose(several.numpy(), one.numpy(), rtol=0, atol=2e-6, err_msg=before.path)
        moves.append(np.abs(one.numpy() - before.numpy()).max())
    assert max(moves) > 0.01
    for mine, theirs in zip(history, expected, strict=True):
        # The correlation of outputs that hardly differ is that of their last bits.
        for name in set(names(task)) - {"loss", "pearson"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5), name


@pytest.mark.parametrize("task", ["next_sentence", "text_embedding", "question_answering"])
def test_two_devices_equal_one(tmp_path, mirrored, task):
    config = dataclasses.replace(encoder.CONFIG, dropout=0.0)
    # So large an epsilon does not blow up what is 0 but for rounding, such as the gradient of what all keys share.
    numbers = FINE_TUNING | {"epsilon": 1e-3}
    one, expected = encoder.train(tmp_path / "one", task, encoder.new_model(task, config=config), **numbers)
    with mirrored.scope():
        model = encoder.new_model(task, config=config)
    two, history = encoder.train(tmp_path / "two", task, model, **numbers)
    for name in names(task):
        for prefix in ("", "val_"):
            values = [[record[prefix + name] for record in records] for records in (history, expected)]
            assert values[0] == pytest.approx(values[1], rel=1e-5), name
    for mine, theirs in zip(two.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", ["multi_label", "regression", "text_embedding", "next_sentence"])
def test_half_precision(tmp_path, task):
    numbers = {"num_steps": 1, "checkpoint_steps": 1, "warmup_steps": 0}
    exact = encoder.train(tmp_path / "exact", task, **numbers)[1]
    half = encoder.train(tmp_path / "half", task, encoder.new_model(task, dtype="mixed_bfloat16"), **numbers)[1]
    assert half[0]["val_loss"] == pytest.approx(exact[0]["val_loss"], rel=0.1)
    assert half[0]["val_loss"] != exact[0]["val_loss"]


@pytest.mark.parametrize("task", TASKS)
def test_it_learns(tmp_path, task):
    """One batch by heart."""
    numbers = {"num_steps": 60, "checkpoint_steps": 20, "warmup_steps": 6, "keep_checkpoints": 1}
    model = encoder.new_model(task, config=dataclasses.replace(encoder.CONFIG, dropout=0.0, num_layers=1))
    history = fit(model, encoder.train_dataset(task, 1), encoder.config(**numbers), tmp_path, verbose=0)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def history_of(run_dir, **changes):
    """Validates on labels that are the opposite of the training's: the first checkpoint has the best loss."""
    contrary = encoder.validation_dataset("text_classification").map(lambda x, y, w: (x, 1 - y, w))
    model = encoder.new_model("text_classification")
    numbers = {"num_steps": 24, "checkpoint_steps": 2, "early_stopping_patience": 2, "keep_checkpoints": 1}
    dataset = encoder.train_dataset("text_classification", 2)
    return fit(model, dataset, encoder.config(**numbers | changes), run_dir, validation_dataset=contrary, verbose=0)


@pytest.mark.parametrize("monitor", ["", "accuracy", "loss"])
def test_the_monitored_measure_stops_early_and_chooses_the_best(tmp_path, monitor):
    history = history_of(tmp_path, monitor=monitor)
    name, sign = ("val_loss", -1) if monitor == "loss" else ("val_accuracy", 1)
    values = [sign * record[name] for record in history]
    best = values.index(max(values))
    assert len(history) == best + 3 < 12
    assert checkpoints.best(tmp_path, monitor).step == history[best]["step"] == best_record(history, monitor)["step"]
    assert checkpoints.steps(tmp_path) == sorted({history[best]["step"], history[-1]["step"]})
    assert history_of(tmp_path, monitor=monitor) == history


def test_what_is_not_measured_cannot_be_monitored(tmp_path):
    message = r"`monitor` must be one of loss, accuracy, without val_; received monitor='acuracy'. Did you mean 'accur"
    with pytest.raises(RecipeError, match=message):
        encoder.train(tmp_path, "text_classification", monitor="acuracy")
    assert not checkpoints.steps(tmp_path)


def test_labels_that_are_no_classes_are_not_smoothed(tmp_path):
    with pytest.raises(RecipeError, match="`label_smoothing` must be 0 for 'regression'"):
        encoder.train(tmp_path, "regression", label_smoothing=0.1)


@pytest.mark.parametrize("task", TASKS)
def test_an_objective_has_the_names_that_are_promised_and_smooths_classes_alone(task):
    model = encoder.new_model(task)
    trained_for = objective(model)
    derived = {"loss", "perplexity"} if trained_for.counted == "nats_per_token" else {"loss"}
    assert {meter.name for meter in trained_for.meters} | derived == set(names(task))
    if task in ("regression", "question_answering", "text_embedding"):
        return
    smoothed = objective(model, label_smoothing=0.25).loss
    if task == "next_sentence":
        assert smoothed["next_sentence_logits"].label_smoothing == 0  # two answers, not a vocabulary
        smoothed = smoothed["logits"]
    assert smoothed.label_smoothing == 0.25


def test_the_progress_line_has_a_records_names(tmp_path, capsys):
    fit(
        encoder.new_model("next_sentence"),
        encoder.train_dataset("next_sentence"),
        encoder.config(),
        tmp_path,
        validation_dataset=encoder.validation_dataset("next_sentence"),
        verbose=2,
    )
    printed = capsys.readouterr().out
    for name in ("nats_per_token", "token_accuracy", "next_sentence_accuracy", "val_next_sentence_accuracy", "loss"):
        assert f" {name}: " in printed
    assert "logits" not in printed
