"""What each task minimizes and measures, as `compile` takes it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from tfzoo.training.losses import BinaryCrossEntropy, CrossEntropy, InBatchContrastive, SquaredError
from tfzoo.training.measures import check_monitor, check_smoothing, measures
from tfzoo.training.metrics import Accuracy, LabelAccuracy, NatsPerToken, PartnerAccuracy, Pearson, TokenAccuracy

Metrics = list[keras.metrics.Metric]
# What the model for masked tokens and sentences gives, and what its labels and weights are called.
_TOKENS, _SENTENCES = "logits", "next_sentence_logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What `fit` compiles a model with.

    Args:
        loss: of the model's output; or output -> loss, of which the sum is minimized.
        metrics: of the model's output; or output -> metrics. Their names differ, and are those of a record.
        counted: name of the metric whose `count` is what `tokens_per_second` is of; None where a label is that of a
            whole example: then there is `examples_per_second`.
    """

    loss: keras.losses.Loss | dict[str, keras.losses.Loss]
    metrics: Metrics | dict[str, Metrics]
    counted: str | None

    @property
    def meters(self) -> Metrics:
        """All metrics."""
        return sum(self.metrics.values(), []) if isinstance(self.metrics, dict) else self.metrics


def objective(model: keras.Model, label_smoothing: float = 0.0, monitor: str = "") -> Objective:
    """Returns what a model is trained for.

    Args:
        model: its `task`, and its `config` where that has a say, decide; a model without a task gives token logits.
        label_smoothing: see `TrainingConfig`.
        monitor: what decides which checkpoint is best; "" = the usual.

    Raises:
        RecipeError: labels that are no classes are to be smoothed, or nothing of the name `monitor` is measured.
    """
    task = getattr(model, "task", "causal_lm")
    problem = model.config.problem if task == "text_classification" else "single_label"
    next_sentence = task == "fill_mask" and model.config.next_sentence
    check_monitor(monitor, measures(task, problem, next_sentence))
    check_smoothing(label_smoothing, task, problem)
    cross_entropy = CrossEntropy(label_smoothing)
    if next_sentence:
        return Objective(
            loss={_TOKENS: cross_entropy, _SENTENCES: CrossEntropy()},
            metrics={_TOKENS: [NatsPerToken(), TokenAccuracy()], _SENTENCES: [Accuracy("next_sentence_accuracy")]},
            counted="nats_per_token",
        )
    if task in ("seq2seq", "causal_lm", "fill_mask"):
        return Objective(loss=cross_entropy, metrics=[NatsPerToken(), TokenAccuracy()], counted="nats_per_token")
    if task == "text_embedding":
        return Objective(loss=InBatchContrastive(), metrics=[PartnerAccuracy()], counted=None)
    if problem == "regression":
        return Objective(loss=SquaredError(), metrics=[Pearson()], counted=None)
    if problem == "multi_label":
        return Objective(loss=BinaryCrossEntropy(label_smoothing), metrics=[LabelAccuracy()], counted=None)
    counted = "accuracy" if task == "token_classification" else None
    return Objective(loss=cross_entropy, metrics=[Accuracy()], counted=counted)


@contextlib.contextmanager
def plain_names(model: keras.Model, objective: Objective) -> Iterator[None]:
    """Within, a model of several outputs reports its metrics by their own names; Keras puts the output's before each.

    Args:
        model: compiled with the objective.
        objective: its metrics' names differ.
    """
    if not isinstance(objective.metrics, dict):
        yield
        return
    names = {f"{output}_{one.name}": one.name for output, metrics in objective.metrics.items() for one in metrics}
    get_metrics_result = model.get_metrics_result

    def result() -> dict[str, Any]:
        # Keras' own means of each output's loss are left out: they are not exact, and `NatsPerToken` is.
        named = {"loss": "loss", **names}
        return {named[name]: value for name, value in get_metrics_result().items() if name in named}

    model.get_metrics_result = result
    try:
        yield
    finally:
        del model.get_metrics_result
