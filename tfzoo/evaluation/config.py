"""Which scores a run reports, readable without TensorFlow."""

from __future__ import annotations

import dataclasses

from tfzoo.errors import RecipeError, nearest

METRICS = ("bleu", "chrf", "exact_match", "token_error_rate", "word_error_rate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The scores of output texts against reference texts; `tfzoo.evaluation.text_metrics` defines them.

    Args:
        metrics: names, each one of "bleu", "chrf", "exact_match", "token_error_rate", "word_error_rate".

    Raises:
        RecipeError: an unknown or repeated metric.
    """

    metrics: tuple[str, ...] = ("bleu", "chrf")

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise RecipeError(f"`metrics` knows {', '.join(METRICS)}; received {name!r}.{nearest(name, METRICS)}")
        if len(set(self.metrics)) < len(self.metrics):
            raise RecipeError(f"`metrics` must not repeat a name; received metrics={','.join(self.metrics)}.")
