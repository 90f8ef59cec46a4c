"""A recipe: every number of a run, from tokenizer to evaluation, in one frozen object, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, get_type_hints

from tfzoo.data.config import DataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import RecipeError, nearest
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import TransformerConfig
from tfzoo.recipes.fields import from_plain, from_text
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig

SECTIONS: dict[str, type] = {
    "tokenizer": TokenizerConfig,
    "data": DataConfig,
    "model": TransformerConfig,
    "training": TrainingConfig,
    "decoding": DecodingConfig,
    "evaluation": EvaluationConfig,
}
FAMILIES = ("transformer",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run is made of.

    Args:
        name: the zoo's name, or any other.
        family: which model the `model` section configures: "transformer".
        tokenizer: which tokenizer each side gets.
        data: where the text comes from and how it is batched.
        model: the architecture's numbers.
        training: steps, learning rate, checkpoints.
        decoding: how outputs are searched.
        evaluation: which scores are reported.

    Raises:
        RecipeError: an unknown family, or two sections contradict each other.
    """

    name: str
    family: str = "transformer"
    tokenizer: TokenizerConfig
    data: DataConfig
    model: TransformerConfig
    training: TrainingConfig
    decoding: DecodingConfig
    evaluation: EvaluationConfig

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            hint = nearest(self.family, FAMILIES)
            raise RecipeError(f"`family` knows {', '.join(FAMILIES)}; received family={self.family!r}.{hint}")
        if (self.tokenizer.target is None) != (self.model.source_vocabulary_size is None):
            raise RecipeError(
                "`tokenizer.target` and `model.source_vocabulary_size` go together: both none for one shared "
                f"vocabulary, both set for two; received tokenizer.target={self.tokenizer.target}, "
                f"model.source_vocabulary_size={self.model.source_vocabulary_size}."
            )
        for length, name in (
            (self.data.max_source_length, "data.max_source_length"),
            (self.data.max_target_length, "data.max_target_length"),
            (self.decoding.max_length, "decoding.max_length"),
        ):
            if length > self.model.max_sequence_length:
                raise RecipeError(
                    f"`{name}` must not exceed `model.max_sequence_length`; received "
                    f"{name}={length}, model.max_sequence_length={self.model.max_sequence_length}."
                )


def to_json(recipe: Recipe) -> str:
    """Returns the recipe as indented JSON, from which `from_json` makes an equal one."""
    return json.dumps(dataclasses.asdict(recipe), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Recipe:
    """Reads a recipe that `to_json` wrote, or that was written by hand; fields with a default may be left out.

    Raises:
        RecipeError: not JSON, an unknown or missing field, a value of the wrong type, or a contradiction.
    """
    try:
        plain = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"a recipe is JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    _check_names("recipe", plain, Recipe)
    values = {
        name: _section(name, value) if name in SECTIONS else from_plain(name, value, get_type_hints(Recipe)[name])
        for name, value in plain.items()
    }
    return Recipe(**values)


def override(recipe: Recipe, assignments: str | Iterable[str]) -> Recipe:
    """Changes single fields, each given as `section.field=value`.

    All assignments are applied before the result is checked, so that fields that depend on each other can change
    together.

    >>> override(transformer.tiny(), "training.num_steps=100").training.num_steps
    100

    Args:
        recipe: the recipe to start from; it stays as it is.
        assignments: one assignment or several; of two to the same field the last one wins. `none` empties an optional
            field; a field with several values takes them separated by commas.

    Raises:
        RecipeError: an unknown field, a value of the wrong type, or a contradiction.
    """
    changes: dict[str, dict[str, Any]] = {}
    for assignment in [assignments] if isinstance(assignments, str) else assignments:
        path, equals, text = assignment.partition("=")
        section, dot, field = path.strip().partition(".")
        if not equals or not dot:
            raise RecipeError(f"an override reads section.field=value; received {assignment!r}.")
        if section not in SECTIONS:
            raise RecipeError(
                f"a recipe's sections are {', '.join(SECTIONS)}; received {assignment!r}.{nearest(section, SECTIONS)}"
            )
        hints = get_type_hints(SECTIONS[section])
        if field not in hints:
            raise RecipeError(f"`{section}` has no field {field!r}.{nearest(field, hints)}")
        changes.setdefault(section, {})[field] = from_text(f"{section}.{field}", text.strip(), hints[field])
    return dataclasses.replace(
        recipe,
        **{section: dataclasses.replace(getattr(recipe, section), **values) for section, values in changes.items()},
    )


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Returns the fields in which two recipes differ, as `section.field`, in the recipe's order.

    >>> differences(transformer.tiny(), override(transformer.tiny(), "data.seed=1"))
    ['data.seed']
    """
    found = []
    for field in dataclasses.fields(Recipe):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if ours == theirs:
            continue
        if type(ours) is not type(theirs) or field.name not in SECTIONS:
            found.append(field.name)
        else:
            names = (inner.name for inner in dataclasses.fields(ours))
            found += [f"{field.name}.{name}" for name in names if getattr(ours, name) != getattr(theirs, name)]
    return found


def _section(name: str, plain: Any) -> Any:
    config = SECTIONS[name]
    _check_names(name, plain, config)
    hints = get_type_hints(config)
    return config(**{field: from_plain(f"{name}.{field}", value, hints[field]) for field, value in plain.items()})


def _check_names(where: str, plain: Any, config: type) -> None:
    if not isinstance(plain, dict):
        raise RecipeError(f"`{where}` must be a JSON object; received {plain!r}.")
    fields = {field.name: field for field in dataclasses.fields(config)}
    for name in plain:
        if name not in fields:
            raise RecipeError(f"`{where}` has no field {name!r}.{nearest(name, fields)}")
    for name, field in fields.items():
        if name not in plain and field.default is dataclasses.MISSING:
            raise RecipeError(f"`{where}` lacks its field {name!r}; add it.")
