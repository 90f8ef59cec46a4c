"""Values of recipe fields, checked against the field's declared type.

The types are those that recipes declare: int, float, str, bool, tuple[str, ...], Literal, and any of these or None.
"""

from __future__ import annotations

import math
import types
from typing import Any, Literal, get_args, get_origin

from tfzoo.errors import RecipeError, nearest

_NAMES = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}


def from_plain(where: str, value: Any, hint: Any) -> Any:
    """Checks a value as JSON gives it, and returns it as the field holds it.

    Args:
        where: the field's path, for the error.
        value: number, string, boolean, list of strings, or None.
        hint: the field's declared type.

    Raises:
        RecipeError: the value is not of that type.
    """
    kind, optional = _split(hint)
    if value is None and optional:
        return None
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
    elif get_origin(kind) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _error(where, value, kind, optional)


def from_text(where: str, text: str, hint: Any) -> Any:
    """Parses a value as the command line gives it.

    Args:
        where: the field's path, for the error.
        text: the value; `none` for None, `true` and `false`, commas between the items of a tuple.
        hint: the field's declared type.

    Raises:
        RecipeError: the text is not of that type.
    """
    kind, optional = _split(hint)
    if optional and text.lower() in ("none", "null"):
        return None
    value: Any = text
    try:
        if get_origin(kind) is tuple:
            value = [item.strip() for item in text.split(",") if item.strip()]
        elif kind is bool:
            value = {"true": True, "false": False}[text.lower()]
        elif kind is int or kind is float:
            value = kind(text)
    except (ValueError, KeyError) as error:
        raise _error(where, text, kind, optional) from error
    return from_plain(where, value, hint)


def _split(hint: Any) -> tuple[Any, bool]:
    """Splits `X | None` into X and whether None is allowed."""
    if isinstance(hint, types.UnionType) or get_origin(hint) not in (None, Literal, tuple):
        (kind,) = (argument for argument in get_args(hint) if argument is not types.NoneType)
        return kind, True
    return hint, False


def _error(where: str, value: Any, kind: Any, optional: bool) -> RecipeError:
    hint = ""
    if get_origin(kind) is Literal:
        expected = "one of " + ", ".join(get_args(kind))
        hint = nearest(str(value), get_args(kind))
    elif get_origin(kind) is tuple:
        expected = "a list of texts"
    else:
        expected = _NAMES[kind]
    return RecipeError(f"`{where}` takes {expected}{' or none' if optional else ''}; received {value!r}.{hint}")
