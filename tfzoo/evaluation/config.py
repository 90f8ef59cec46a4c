"""Which scores a run reports, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tfzoo.errors import RecipeError, nearest

METRICS = ("bleu", "chrf", "ter", "rouge", "exact_match", "token_error_rate", "word_error_rate")
TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""SacreBLEU's, but for those that need a dictionary or a download."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The scores of output texts against reference texts; `tfzoo.evaluation.text_metrics` defines them.

    Args:
        metrics: names, each one of "bleu", "chrf", "ter", "rouge", "exact_match", "token_error_rate",
            "word_error_rate".
        tokenizer: what "bleu", "ter" and "rouge" count as a word of the target language: "13a" (sacreBLEU's default,
            for languages with spaces), "intl" (the same for all of Unicode's punctuation), "zh" (Chinese characters
            are words), "char" (all characters are; for Japanese or Thai) or "none" (white space alone).

    Raises:
        RecipeError: an unknown or repeated metric, or an unknown tokenizer.
    """

    metrics: tuple[str, ...] = ("bleu", "chrf")
    tokenizer: Literal["13a", "intl", "zh", "char", "none"] = "13a"

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise RecipeError(f"`metrics` knows {', '.join(METRICS)}; received {name!r}.{nearest(name, METRICS)}")
        if len(set(self.metrics)) < len(self.metrics):
            raise RecipeError(f"`metrics` must not repeat a name; received metrics={','.join(self.metrics)}.")
        if self.tokenizer not in TOKENIZERS:
            raise RecipeError(
                f"`tokenizer` must be one of {', '.join(TOKENIZERS)}; received tokenizer={self.tokenizer!r}."
                f"{nearest(self.tokenizer, TOKENIZERS)}"
            )
