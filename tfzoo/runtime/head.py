"""What a model is for, and the texts that it takes: what a runtime must know besides weights and vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfzoo.errors import UsageError
from tfzoo.models.config import BertConfig, ModelConfig, Problem

Text = str | tuple[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """What a model's answers are made of, besides its logits.

    Args:
        task: a name out of `tfzoo.recipes.recipe.TASKS`.
        max_length: longest sequence in tokens.
        num_texts: texts in an input, 1 or 2.
        labels: names of the classes.
        problem: of a text classifier, see `BertConfig`.
    """

    task: str
    max_length: int
    num_texts: int = 1
    labels: tuple[str, ...] = ()
    problem: Problem = "single_label"

    @classmethod
    def of(cls, config: ModelConfig) -> Head:
        """Returns the head of a model."""
        if not isinstance(config, BertConfig):
            return cls(task=config.task, max_length=config.max_sequence_length)
        return cls(
            task=config.task,
            max_length=config.max_sequence_length,
            num_texts=1 if config.task == "fill_mask" else config.num_texts,  # it sees pairs in training only
            labels=config.labels,
            problem=config.problem,
        )

    @property
    def text_inputs(self) -> tuple[str, ...]:
        """The string inputs of the signatures that take text."""
        if self.task == "question_answering":
            return ("question", "context")
        if self.task == "seq2seq":
            return ("source",)
        return ("text",) if self.num_texts == 1 else ("text_a", "text_b")


def checked_text(text: Any, num_texts: int) -> Text:
    r"""Returns a text, or a pair; one string with a tab in it becomes a pair.

    >>> checked_text("one\ttwo", 2)
    ('one', 'two')

    Raises:
        UsageError: neither of them.
    """
    if num_texts == 1:
        if not isinstance(text, str):
            raise UsageError(f"`texts` must hold strings; received {text!r}.")
        return text
    pair = tuple(text.split("\t", 1)) if isinstance(text, str) else text
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(one, str) for one in pair):
        return (pair[0], pair[1])
    raise UsageError(
        "`texts` must hold pairs of strings, (text_a, text_b), or strings with a tab between the two; "
        f"received {text!r}."
    )


def text_columns(texts: Sequence[Text], head: Head) -> dict[str, np.ndarray]:
    """Texts, or pairs of them -> name of each string input -> (B,) UTF-8 bytes."""
    rows = [checked_text(text, head.num_texts) for text in texts]
    columns = zip(*([row] if isinstance(row, str) else row for row in rows), strict=True)
    return {
        name: np.array([text.encode() for text in column], object)
        for name, column in zip(head.text_inputs, columns, strict=True)
    }
