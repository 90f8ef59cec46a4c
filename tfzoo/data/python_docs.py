"""`sample:python_docs`: the English prose that CPython carries, read from its sources; nothing is imported.

A document is a topic of `help()` (`pydoc_data.topics`, most of the language reference), or all docstrings of a module
of the standard library. CPython 3.11.7 has 605 documents of 2.16 million characters.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tfzoo.errors import DataError

# Others' packages, and what speaks of test cases in half sentences.
_LEFT_OUT = ("site-packages", "dist-packages", "test", "tests", "idle_test")
# A hundred codecs that a program generated, each with the same line.
_GENERATED = ("encodings",)
_TOPICS = ("pydoc_data", "topics")
# Words that make a copy and no coincidence, and the share of them that makes a document a copy.
_RUN, _SHARE_COPIED = 8, 0.1


def documents(is_wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yields the topics by name, then the docstrings of the modules by name.

    A module's docstring and those of its classes and functions stand in the order of the source, with a blank line
    between.

    Args:
        is_wanted: takes the key of a document: "topic lambda", or the name of a top-level module, which all modules of
            a package share. `decimal`, `_decimal` and `_pydecimal` describe the same things and share a key, too.

    Raises:
        DataError: this Python has no sources, or one that does not parse.
    """
    modules = _modules()
    for name, topic in sorted(_topics(modules.pop(_TOPICS)).items()):
        if is_wanted(f"topic {name}") and (text := inspect.cleandoc(topic)):
            yield text
    for parts, path in sorted(modules.items()):
        if is_wanted(_key(parts)) and (text := "\n\n".join(_docstrings(path))):
            yield text


def packages(is_wanted: Callable[[str], bool]) -> dict[str, list[str]]:
    """Returns the distinct docstrings of each top-level module or package, by its key, as `documents` has them.

    Args:
        is_wanted: see `documents`; there are no topics here.

    Raises:
        DataError: see `documents`.
    """
    found: dict[str, dict[str, None]] = {}
    for parts, path in sorted(_modules().items()):
        if parts != _TOPICS and is_wanted(_key(parts)):
            found.setdefault(_key(parts), {}).update(dict.fromkeys(_docstrings(path)))
    return {key: [*texts] for key, texts in sorted(found.items())}


def _modules() -> dict[tuple[str, ...], Path]:
    """Returns the parts of a module's name -> its source."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = {path.relative_to(root).with_suffix("").parts: path for path in _sources(root)}
    if _TOPICS not in modules:
        raise DataError(
            f"sample:python_docs reads the sources of the standard library, and {root} lacks pydoc_data/topics.py; "
            "use a Python with its library unpacked."
        )
    # A folder such as lib-dynload is no package.
    return {
        parts: path
        for parts, path in modules.items()
        if parts == _TOPICS
        or all(part.isidentifier() for part in parts)
        and parts[0] not in _GENERATED
        and not set(_LEFT_OUT) & set(parts)
    }


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        # Others' packages may be a hundred times the library.
        folders[:] = set(folders) - set(_LEFT_OUT)
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _key(parts: tuple[str, ...]) -> str:
    return parts[0].removeprefix("_py").lstrip("_")


def without_copies(held_out: Iterable[str], train: Iterable[str]) -> Iterator[str]:
    """Yields the held-out documents but those that repeat training documents, as `wave` repeats `aifc`.

    A document is left out when more than a tenth of its runs of eight words stand in training documents too, a filter
    like that of Brown et al., 2020 (https://arxiv.org/abs/2005.14165, appendix C).
    """
    trained = {run for text in train for run in _runs(text)}
    for text in held_out:
        runs = list(_runs(text))
        if sum(run in trained for run in runs) <= _SHARE_COPIED * len(runs):
            yield text


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = text.split()
    return (tuple(words[first : first + _RUN]) for first in range(len(words) - _RUN + 1))


def _topics(path: Path) -> dict[str, str]:
    """Returns name -> text, without topics of which a longer one repeats most, such as "try" in "compound"."""
    (topics,) = (ast.literal_eval(node.value) for node in _parse(path).body if isinstance(node, ast.Assign))
    kept = {}
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = [paragraph.strip() for paragraph in topics[name].split("\n\n")]
        if 2 * sum(len(one) for one in paragraphs if one in seen) < len(topics[name]):
            kept[name] = topics[name]
            seen.update(paragraphs)
    return kept


@functools.cache  # A run reads the library for its tokenizer, its training and, to leave out copies, its validation.
def _docstrings(path: Path) -> tuple[str, ...]:
    return tuple(_below(_parse(path)))


def _below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if text := (ast.get_docstring(node) or "").strip():
            yield text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):  # no expression holds a docstring
            yield from _below(child)


def _parse(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes such as "\d"
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"sample:python_docs: {path} cannot be read ({error}); repair this Python.") from error
