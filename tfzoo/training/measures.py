"""What training measures, by task; readable without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable

from tfzoo.errors import RecipeError, nearest

# What was measured at one checkpoint, by name; always holds "step", and what `measures` names except at step 0.
Record = dict[str, float]

# The first one measured decides where nobody says what does.
_USUAL = ("nats_per_token", "accuracy", "loss")
_HIGHER_IS_BETTER = ("accuracy", "pearson")


def measures(task: str, problem: str = "single_label", next_sentence: bool = False) -> tuple[str, ...]:
    """Returns the names of what a record measures, in training, and as val_* in validation.

    >>> measures("text_classification")
    ('loss', 'accuracy')

    Args:
        task: a name out of `tfzoo.recipes.TASKS`.
        problem: of a text classifier.
        next_sentence: whether a "fill_mask" model is trained on sentences too.
    """
    if task in ("seq2seq", "causal_lm", "fill_mask"):
        names = ("loss", "nats_per_token", "perplexity", "token_accuracy")
        return (*names, "next_sentence_accuracy") if next_sentence else names
    return ("loss", "pearson") if problem == "regression" else ("loss", "accuracy")


def check_monitor(monitor: str, names: Iterable[str]) -> None:
    """Raises RecipeError when nothing of that name is measured; "" stands for the usual one."""
    names = tuple(names)
    if monitor and monitor not in names:
        raise RecipeError(
            f"`monitor` must be one of {', '.join(names)}, without val_; received monitor={monitor!r}."
            f"{nearest(monitor.removeprefix('val_'), names)}"
        )


def check_smoothing(label_smoothing: float, task: str, problem: str = "single_label") -> None:
    """Raises RecipeError when labels are to be smoothed that are not classes out of a fixed set."""
    if label_smoothing and (task in ("question_answering", "text_embedding") or problem == "regression"):
        what = task if problem == "single_label" else problem
        raise RecipeError(
            f"`label_smoothing` must be 0 for {what!r}, whose labels are not classes out of a fixed set; received "
            f"label_smoothing={label_smoothing}."
        )


def monitored(record: Record, monitor: str = "") -> str:
    """Returns the name in a record of what decides: of the validation, if it was validated.

    >>> monitored({"step": 10, "loss": 1.0, "accuracy": 0.5, "val_loss": 2.0, "val_accuracy": 0.4})
    'val_accuracy'

    Args:
        record: one checkpoint's.
        monitor: a name out of `measures`; "" = the first of nats_per_token, accuracy and loss that was measured.
    """
    name = monitor or next((name for name in _USUAL if name in record), _USUAL[0])
    return f"val_{name}" if f"val_{name}" in record else name


def best_record(history: list[Record], monitor: str = "") -> Record:
    """Returns the record with the best value of what is monitored, the earliest of equals.

    Validation decides; training does where the newest checkpoint was not validated. Before the first step nothing is
    measured: then it is the only record.

    >>> best_record([{"step": 10, "nats_per_token": 2.0, "val_nats_per_token": 2.5},
    ...              {"step": 20, "nats_per_token": 1.0, "val_nats_per_token": 2.1},
    ...              {"step": 30, "nats_per_token": 0.5, "val_nats_per_token": 2.3}])["step"]
    20

    Args:
        history: records, at least one.
        monitor: a name out of `measures`; "" = the task's usual one.
    """
    return best_records(history, 1, monitor)[0]


def best_records(history: list[Record], num: int, monitor: str = "") -> list[Record]:
    """Returns the `num` best records, the best first, the earlier of equals first; fewer where so many were measured.

    Args:
        history: records, at least one.
        num: at least 1.
        monitor: a name out of `measures`; "" = the task's usual one.
    """
    key = monitored(history[-1], monitor)
    sign = -1 if key.endswith(_HIGHER_IS_BETTER) else 1
    measured = sorted((record for record in history if key in record), key=lambda record: sign * record[key])
    return measured[:num] or [history[-1]]
