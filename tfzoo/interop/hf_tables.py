"""What the tables of Hugging Face's families are made of: tensors, and fields of config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfzoo.errors import CheckpointError


class Tensor(NamedTuple):
    """One tensor of theirs.

    parts: variables of ours that stand in it side by side, on our last axis.
    shape: its own.
    transposed: whether it is the transpose of ours; PyTorch's dense layers have (output, input).
    row: whether it is one row, and ours is what stands in it.
    """

    parts: tuple[str, ...]
    shape: tuple[int, ...]
    transposed: bool = False
    row: bool = False


def check_fixed(plain: Mapping[str, Any], fixed: Mapping[str, Any], model: str) -> None:
    """Refuses a configuration that asks for what our model has not.

    Args:
        plain: the content of config.json.
        fixed: name of a field -> the only value that it may have.
        model: what the error calls our model.

    Raises:
        CheckpointError: another value.
    """
    for name, value in fixed.items():
        if plain.get(name, value) != value:
            raise CheckpointError(f"{name} is {plain[name]!r}, and this {model} has {value!r} alone")


def read_dropout(plain: Mapping[str, Any], names: Sequence[str], model: str) -> float:
    """Returns the one value that all dropouts have; 0.1 where config.json leaves one out.

    Raises:
        CheckpointError: they differ.
    """
    dropouts = {name: plain.get(name, 0.1) for name in names}
    if len(set(dropouts.values())) > 1:
        found = ", ".join(f"{name} is {value!r}" for name, value in dropouts.items())
        raise CheckpointError(f"{found}, and this {model} has one dropout; set them alike, the weights stay the same")
    return dropouts[names[0]]


def read_fields(plain: Mapping[str, Any], fields: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Returns our field -> its value.

    Args:
        plain: the content of config.json.
        fields: our field -> theirs, and its value where config.json leaves it out.

    Raises:
        CheckpointError: a value of another type.
    """
    values = {ours: plain.get(theirs, default) for ours, (theirs, default) in fields.items()}
    for ours, (theirs, default) in fields.items():
        if isinstance(values[ours], bool) or not isinstance(values[ours], type(default)):
            raise CheckpointError(f"{theirs} is {values[ours]!r}, and must be like {default!r}")
    return values


def check_vocabulary(fields: Mapping[str, Any], tokenizer: Any) -> None:
    """Raises CheckpointError when the model and its tokenizer have different numbers of ids."""
    if tokenizer.vocabulary_size != fields["vocabulary_size"]:
        raise CheckpointError(
            f"vocab_size is {fields['vocabulary_size']}, and the tokenizer has {tokenizer.vocabulary_size} ids; "
            "they must agree"
        )
