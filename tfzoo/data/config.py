"""What a run trains and validates on, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal, get_args

from tfzoo.errors import RecipeError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the text comes from and how it is cut into batches.

    Args:
        train: data specifications such as "tsv:train.tsv", "tfds:NAME:SPLIT" or "sample:cmudict"; "@0.3" behind one
            gives its weight in a mixture.
        validation: the same, for validation.
        batch_tokens: most tokens in a batch of sources or targets, padding included.
        batch_size: examples in a batch; wins over `batch_tokens` when given.
        max_source_length: longest source in tokens, the end token included; longer examples are left out.
        max_target_length: the same for the target.
        seed: the order of the examples is a function of this seed and the epoch.

    Raises:
        RecipeError: a number is out of its range, or `batch_tokens` cannot hold one example.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    batch_tokens: int = 4096
    batch_size: int | None = None
    max_source_length: int = 256
    max_target_length: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        # An example needs one token of text besides the end token.
        for name, low in (("batch_tokens", 1), ("max_source_length", 2), ("max_target_length", 2), ("seed", 0)):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise RecipeError(f"`batch_size` must be at least 1, or null; received batch_size={self.batch_size}.")
        longest = max(self.max_source_length, self.max_target_length)
        if self.batch_size is None and self.batch_tokens < longest:
            raise RecipeError(
                "`batch_tokens` must hold one example of the greatest length; received "
                f"batch_tokens={self.batch_tokens}, max_source_length={self.max_source_length}, "
                f"max_target_length={self.max_target_length}."
            )


Examples = Literal["packed", "contiguous", "prompt_answer"]
CLEANING = ("nfkc", "whitespace", "control_characters", "exact_duplicates", "near_duplicates")
"""Names of the steps of `tfzoo.data.cleaning`, which does without TensorFlow, but not without NumPy."""


def check_cleaning(steps: Iterable[str]) -> None:
    """Raises RecipeError when one of the steps has no such name."""
    for step in steps:
        if step not in CLEANING:
            raise RecipeError(f"`cleaning` holds {step!r}; there are {', '.join(CLEANING)}.{nearest(step, CLEANING)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLmDataConfig:
    """Where the documents come from and how they are cut into batches for a language model.

    Args:
        train: data specifications such as "text:books/*.txt", "jsonl:docs.jsonl" or "sample:python_docs"; for
            `examples="prompt_answer"` those of pairs, such as "tsv:dialogue.tsv".
        validation: the same, for validation.
        examples: "packed" (windows of the shuffled documents), "contiguous" (each row goes on where it ended in the
            batch before, for a model that carries its state) or "prompt_answer" (pairs; the loss falls on the answer).
        sequence_length: T, tokens that a row predicts; the longest prompt with its answer for "prompt_answer".
        stride: tokens that a validation window is ahead of the one before; the others are its context. None = T // 2.
        batch_size: rows in a batch.
        separator: text between prompt and answer.
        cleaning: names of steps that documents go through first, see `tfzoo.data.cleaning`.
        seed: the order of the documents is a function of this seed and the epoch.

    Raises:
        RecipeError: a number is out of its range, or an unknown name.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    examples: Examples = "packed"
    sequence_length: int = 256
    stride: int | None = None
    batch_size: int = 32
    separator: str = "\n"
    cleaning: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("sequence_length", 2), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise RecipeError(f"`{name}` must be at least {low}; received {name}={getattr(self, name)}.")
        if self.examples not in get_args(Examples):
            raise RecipeError(
                f"`examples` must be one of {', '.join(get_args(Examples))}; received examples={self.examples!r}."
            )
        check_cleaning(self.cleaning)
        if self.stride is not None and not 1 <= self.stride <= self.sequence_length:
            raise RecipeError(
                "`stride` must be in [1, sequence_length], or null; received "
                f"stride={self.stride}, sequence_length={self.sequence_length}."
            )
