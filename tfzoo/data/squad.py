"""Questions with contexts and answers from SQuAD's JSON, version 1.1 or 2.0.

Rajpurkar et al., 2016, https://arxiv.org/abs/1606.05250; Rajpurkar et al., 2018, https://arxiv.org/abs/1806.03822.

    {"data": [{"title": "Normans", "paragraphs": [{
        "context": "The Normans came from Denmark.",
        "qas": [
            {"id": "a1", "question": "Who came?", "answers": [{"text": "The Normans", "answer_start": 0}]},
            {"id": "a2", "question": "Who left?", "answers": [], "is_impossible": true}]}]}]}

A question without answers has none in its context; `plausible_answers` are not read. `answer_start` counts characters
(code points), and the answer must stand there.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tfzoo.data.sources import find_files, parse_spec
from tfzoo.errors import DataError, UsageError, nearest

_JSON_NAMES = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}
_T = TypeVar("_T")


class Answer(NamedTuple):
    """A piece of a context: `context[start : start + len(text)] == text`."""

    text: str
    start: int


class Question(NamedTuple):
    """A question, its context, and answers that are all right; none = the context does not answer it."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]


def read_questions(spec: str) -> Iterator[Question]:
    """Yields the questions of a data specification such as "squad:train-v2.0.json", as they stand in the files.

    Args:
        spec: `squad:PATH`; PATH may be a glob, and `.gz` files are decompressed.

    Raises:
        UsageError: a specification of another kind.
        DataError: missing, empty or malformed data, or an answer that does not stand where it should; the message names
            file, article, paragraph and question.
    """
    scheme, location = parse_spec(spec)
    if scheme != "squad":
        raise UsageError(f"{spec}: questions with contexts and answers are needed; use `squad:`.")
    return (question for path in find_files(location) for question in _questions(path))


def read_texts(specs: Iterable[str]) -> Iterator[tuple[str]]:
    """Yields each context once, and each question: what a tokenizer is trained on.

    Args:
        specs: as `read_questions` takes them.

    Raises:
        UsageError: a specification of another kind.
        DataError: as `read_questions`.
    """
    context = None
    for spec in specs:
        for one in read_questions(spec):
            if one.context != context:
                context = one.context
                yield (context,)
            yield (one.question,)


def _questions(path: Path) -> Iterator[Question]:
    content = _checked(_load(path), dict, f"{path}: the file")
    articles = _field(content, "data", list, str(path))
    is_empty = True
    for number, article in enumerate(articles, start=1):
        article_place = f"{path}: article {number}"
        article = _checked(article, dict, article_place)
        if "title" in article:
            article_place += f" ({article['title']})"
        for paragraph_place, paragraph in _items(article, "paragraphs", "paragraph", article_place):
            context = _text(paragraph, "context", paragraph_place)
            for place, question in _items(paragraph, "qas", "question", paragraph_place):
                is_empty = False
                yield _question(question, context, place)
    if is_empty:
        raise DataError(f"{path}: there is no question in it; name a file with at least one.")


def _load(path: Path) -> Any:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start + 1} (0x{error.object[error.start]:02x}) is not UTF-8; convert the file, for "
            "example with `iconv -f LATIN1 -t UTF-8`."
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: broken JSON at character {error.colno} ({error.msg}); give one JSON object, as "
            "SQuAD's files are."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _question(values: dict[str, Any], context: str, place: str) -> Question:
    identifier = values.get("id")
    if type(identifier) not in (str, int):
        raise DataError(f"{place}: the field 'id' must be a string; received {json.dumps(identifier)[:40]}.")
    place += f" ({identifier})"
    question = _text(values, "question", place)
    answers = tuple(_answer(one, context, answer) for answer, one in _items(values, "answers", "answer", place))
    if values.get("is_impossible") and answers:
        raise DataError(f"{place}: it is_impossible, and has answers; leave out one or the other.")
    return Question(str(identifier), question, context, answers)


def _answer(values: dict[str, Any], context: str, place: str) -> Answer:
    text, start = _text(values, "text", place), _field(values, "answer_start", int, place)
    if not text:
        raise DataError(f"{place}: its text is empty; an empty list of answers says that there is none.")
    if start < 0 or not context.startswith(text, start):
        found = [match.start() for match in re.finditer(re.escape(text), context)]
        hint = f"stands at {min(found, key=lambda one: abs(one - start))}" if found else "stands nowhere in it"
        raise DataError(
            f"{place}: {text[:40]!r} is not what the context has at answer_start={start}; it {hint}, counted in "
            "characters (code points) from 0."
        )
    return Answer(text, start)


def _items(values: dict[str, Any], name: str, noun: str, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the object of each item of a list."""
    for number, value in enumerate(_field(values, name, list, place), start=1):
        yield f"{place}, {noun} {number}", _checked(value, dict, f"{place}, {noun} {number}")


def _text(values: dict[str, Any], name: str, place: str) -> str:
    text = _field(values, name, str, place)
    if not text.isascii() and re.search("[\ud800-\udfff]", text):
        raise DataError(f"{place}: the field {name!r} holds half of a surrogate pair, which is no character.")
    return text


def _field(values: dict[str, Any], name: str, kind: type[_T], place: str) -> _T:
    if name not in values:
        raise DataError(f"{place}: the field {name!r} is missing; there are {sorted(values)}.{nearest(name, values)}")
    return _checked(values[name], kind, f"{place}: the field {name!r}")


def _checked(value: Any, kind: type[_T], place: str) -> _T:
    if type(value) is not kind:
        raise DataError(f"{place} must be {_JSON_NAMES[kind]}, not {json.dumps(value)[:40]}.")
    return value
