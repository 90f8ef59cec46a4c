"""The errors that tfzoo raises on purpose: one clear line each, with the way out.

The command line prints them without a stack trace; `UsageError` ends it with exit code 2, every other with 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class TfzooError(Exception):
    """Base of every error that tfzoo raises on purpose."""


class UsageError(TfzooError, ValueError):
    """The caller asked for something that does not exist or does not fit."""


class RecipeError(UsageError):
    """A recipe field is unknown, has the wrong type, or contradicts another field."""


class DataError(TfzooError, ValueError):
    """Input data is missing, empty or malformed; the message names file and line."""


class CheckpointError(TfzooError):
    """A run's checkpoint is missing, damaged, or belongs to another model."""


class ArtifactError(TfzooError):
    """An artifact is incomplete, damaged, or not an artifact."""


class ArtifactMismatch(ArtifactError):
    """An artifact's answers differ from the model it was exported from."""


# What TensorFlow says of a graph's error beside the reason: where each operation was made, and their names.
_WHERE = re.compile(
    r'^(Graph execution error:|Detected at node .+|\s+File ".+|Node: .+|Original stack trace for .+'
    r"|\s*\[\[\{\{node .+)$",
    re.MULTILINE,
)


def one_line(error: BaseException) -> str:
    """Returns what another library's error says, often over many lines and with no words at all, in one line."""
    return " ".join(_WHERE.sub("", str(error)).split()) or type(error).__name__


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the closest of `names`, or an empty string when none is close.

    >>> nearest("transformer_tini", ["transformer_tiny", "gpt2_tiny"])
    " Did you mean 'transformer_tiny'?"
    """
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""
