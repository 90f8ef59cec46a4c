"""Records with labels: texts and words, and the names that their labels have.

| specification | a record |
|---|---|
| `tsv:PATH` | text<TAB>label, or text_a<TAB>text_b<TAB>label |
| `jsonl:PATH` | {"text": ..., "label": ...}, or {"text_a": ..., "text_b": ..., "label": ...} |
| `tfds:NAME[/CONFIG][:SPLIT]` | supervised text and label, or features as in `_TFDS_FIELDS` and "label" |
| `sample:NAME[:SPLIT]` | text and label of one of `tfzoo.data.samples.LABELLED_SAMPLES` |
| `conll:PATH` | a sentence: a line a word, its label in the last column, and a blank line at the end |
| `jsonl:PATH` of words | a sentence: {"words": [...], "labels": [...]} |

A label is a string, in TFDS the name of its class; JSON may give a number, and a list where an input has any number of
labels. In CoNLL files, tabs separate the columns of a line that has one, else runs of white space do, and lines that
begin with -DOCSTART- are skipped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfzoo.data.lines import Fields, check_filled, filled_lines, json_text, parse_json, parse_tsv, read_lines
from tfzoo.data.samples import LABELLED_SAMPLES, read_sample
from tfzoo.data.sources import find_files, load_tfds, parse_spec
from tfzoo.errors import DataError, UsageError, nearest

_TEXT_FIELDS: dict[int, Fields] = {1: ("text",), 2: ("text_a", "text_b")}
# What the texts of datasets with these tasks are called, besides the names above.
_TFDS_FIELDS: dict[int, tuple[Fields, ...]] = {
    1: (_TEXT_FIELDS[1], ("sentence",)),
    2: (
        _TEXT_FIELDS[2],
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
        ("question", "sentence"),
    ),
}
_OUTSIDE = "O"
_NUM_SHOWN = 10  # labels in a message


class LabelledText(NamedTuple):
    """An input of a text classifier.

    Args:
        texts: one or two.
        labels: one; of "multi_label" data any number of different ones; a number, written out, for "regression".
        place: where it stands, such as "train.tsv:7".
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    place: str


class LabelledWords(NamedTuple):
    """A sentence.

    Args:
        words: none of them empty, or with white space in it.
        labels: one of each word.
        places: where each word stands, such as "train.conll:7".
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    places: tuple[str, ...]


def read_labelled(
    spec: str, num_texts: int = 1, problem: str = "single_label", label_separator: str = ","
) -> Iterator[LabelledText]:
    """Yields texts with their labels; what the specification names is looked up at once.

    Args:
        spec: see the table above.
        num_texts: 1 or 2.
        problem: "single_label", "multi_label" or "regression".
        label_separator: text between the labels of a "multi_label" line of TSV.

    Raises:
        UsageError: an unknown scheme, or one that has no labels of texts.
        DataError: missing, empty or malformed data, or an input without its label; the message names file and line.
    """
    scheme, location = parse_spec(spec)
    if scheme == "sample":
        return _read_sample(spec, location, num_texts, problem)
    if scheme not in ("tsv", "jsonl", "tfds"):
        raise UsageError(f"{spec}: `{scheme}:` has no texts with labels; use `tsv:`, `jsonl:` or `tfds:`.")
    fields = (*_TEXT_FIELDS[num_texts], "label")
    if scheme == "tfds":
        name, _, split = location.partition(":")
        return _read_tfds(name, split or "train", num_texts, problem)
    files = find_files(location)
    if scheme == "tsv":
        return _read_tsv(files, fields, label_separator if problem == "multi_label" else None)
    return _read_jsonl(files, fields, problem)


def _read_sample(spec: str, location: str, num_texts: int, problem: str) -> Iterator[LabelledText]:
    name, _, split = location.partition(":")
    records = read_sample(name, split or "train")
    if name not in LABELLED_SAMPLES or num_texts != 1 or problem != "single_label":
        fitting = ", ".join(f"`sample:{one}`" for one in LABELLED_SAMPLES)
        raise UsageError(f"{spec}: one text with one label have {fitting}; use `tsv:`, `jsonl:` or `tfds:` for others.")
    return (
        LabelledText((text,), (label,), f"{spec}:{number}") for number, (text, label) in enumerate(records, start=1)
    )


def read_words(spec: str) -> Iterator[LabelledWords]:
    """Yields sentences of labelled words; what the specification names is looked up at once.

    Args:
        spec: see the table above.

    Raises:
        UsageError: an unknown scheme, or one that has no labelled words.
        DataError: missing, empty or malformed data; the message names file and line.
    """
    scheme, location = parse_spec(spec)
    if scheme not in ("conll", "jsonl"):
        raise UsageError(f"{spec}: `{scheme}:` has no labelled words; use `conll:` or `jsonl:`.")
    files = find_files(location)
    return _read_conll(files) if scheme == "conll" else _read_jsonl_words(files)


def text_labels(
    specs: str | Sequence[str], *, num_texts: int = 1, problem: str = "single_label", label_separator: str = ","
) -> tuple[str, ...]:
    """Returns the labels of a classifier's training data in order; none for "regression", whose numbers are checked.

    Args:
        specs: one data specification or several.
        num_texts: 1 or 2.
        problem: "single_label", "multi_label" or "regression".
        label_separator: text between the labels of a "multi_label" line of TSV.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data, or fewer labels than a classifier tells apart.
    """
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    examples = (one for spec in specs for one in read_labelled(spec, num_texts, problem, label_separator))
    if problem == "regression":
        for example in examples:
            number(example)
        return ()
    return _checked_names((label for one in examples for label in one.labels), specs, 1 + (problem == "single_label"))


def word_labels(specs: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the labels of words in training data in order.

    Raises:
        UsageError: an unknown specification.
        DataError: missing or malformed data, or fewer labels than a classifier tells apart.
    """
    specs = (specs,) if isinstance(specs, str) else tuple(specs)
    return _checked_names((label for spec in specs for one in read_words(spec) for label in one.labels), specs, 2)


def _checked_names(labels: Iterable[str], specs: Sequence[str], num_needed: int) -> tuple[str, ...]:
    names = label_names(labels)
    if len(names) < num_needed:
        found = repr(names[0]) if names else "none"
        raise DataError(f"{', '.join(specs)}: the only label is {found}; give data with at least {num_needed}.")
    return names


def label_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns the different labels in order: natural numbers by their value, others by their characters, "O" first.

    >>> label_names(["10", "9", "10"])
    ('9', '10')
    >>> label_names(["I-LOC", "O", "B-LOC"])
    ('O', 'B-LOC', 'I-LOC')
    """
    names = set(labels)
    if all(name.isascii() and name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    is_tagged = any(name.startswith("B-") for name in names)
    return tuple(sorted(names, key=lambda name: (not (is_tagged and name == _OUTSIDE), name)))


class LabelIndex:
    """Label -> its index.

    Args:
        names: labels, by index.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._indices = {name: index for index, name in enumerate(names)}

    def __call__(self, label: str, place: str) -> int:
        """Returns the index of a label.

        Raises:
            DataError: there is no such label.
        """
        if label not in self._indices:
            names = [*self._indices]
            others = f" and {len(names) - _NUM_SHOWN} others" if len(names) > _NUM_SHOWN else ""
            raise DataError(
                f"{place}: the training data has no label {label!r}, but {', '.join(names[:_NUM_SHOWN])}{others}."
                f"{nearest(label, names)}"
            )
        return self._indices[label]


def number(example: LabelledText) -> float:
    """Returns the label of a regression's example.

    Raises:
        DataError: it is no finite number.
    """
    try:
        value = float(example.labels[0])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{example.place}: the label {example.labels[0]!r} is no finite number, such as 2.5.")
    return value


def _read_tsv(files: Sequence[Path], fields: Fields, separator: str | None) -> Iterator[LabelledText]:
    for place, line in filled_lines(files):
        *texts, label = parse_tsv(line, fields, place)
        check_filled(texts, place)
        if separator is None:
            check_filled((*texts, label), place)
            yield LabelledText(tuple(texts), (label.strip(),), place)
        else:
            parts = dict.fromkeys(part.strip() for part in label.split(separator))
            yield LabelledText(tuple(texts), tuple(part for part in parts if part), place)


def _read_jsonl(files: Sequence[Path], fields: Fields, problem: str) -> Iterator[LabelledText]:
    for place, line in filled_lines(files):
        values = parse_json(line, fields, place)
        texts = tuple(json_text(values[field], field, place) for field in fields[:-1])
        check_filled(texts, place)
        yield LabelledText(texts, _labels(values["label"], problem, place), place)


def _labels(value: Any, problem: str, place: str) -> tuple[str, ...]:
    if problem == "multi_label":
        values = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(_label(one, place) for one in values))
    return (_label(value, place),)


def _label(value: Any, place: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{place}: the field 'label' must be a string or a number, not {json.dumps(value)[:40]}.")
    label = json_text(value, "label", place).strip()
    if not label:
        raise DataError(f"{place}: the field 'label' is empty; fill it in or delete the line.")
    return label


def _read_tfds(name: str, split: str, num_texts: int, problem: str) -> Iterator[LabelledText]:
    place = f"tfds:{name}:{split}"
    rows, info = load_tfds(name, split, with_info=True)
    features = info.features
    known = [fields for fields in _TFDS_FIELDS[num_texts] if all(field in features for field in fields)]
    label_field = "label"
    if num_texts == 1 and info.supervised_keys and all(isinstance(key, str) for key in info.supervised_keys):
        text_field, label_field = info.supervised_keys
        known = [(text_field,)]
    if not known or label_field not in features:
        raise DataError(
            f"{place}: no {' and '.join(_TEXT_FIELDS[num_texts])} with a label among its features "
            f"{', '.join(features)}; write them into a file and read it with `tsv:PATH` or `jsonl:PATH`."
        )
    fields = known[0]

    def examples() -> Iterator[LabelledText]:
        for index, row in enumerate(rows.as_numpy_iterator(), start=1):
            here = f"{place}, example {index}"
            if not all(isinstance(row[field], bytes) for field in fields):
                raise DataError(f"{here}: {' and '.join(fields)} must be texts; use another dataset or `tsv:PATH`.")
            texts = tuple(row[field].decode() for field in fields)
            check_filled(texts, here)
            value = _tfds_label(features[label_field], row[label_field], here)
            yield LabelledText(texts, _labels(value, problem, here), here)

    return examples()


def _tfds_label(feature: Any, value: Any, place: str) -> Any:
    """Returns a value of TFDS as JSON has it; of a class its name."""
    feature = getattr(feature, "feature", feature)  # of a sequence
    names = getattr(feature, "names", None)
    if getattr(value, "shape", ()):
        return [_tfds_label(feature, one, place) for one in value]
    if isinstance(value, bytes):
        return value.decode()
    if names and not 0 <= value < len(names):
        raise DataError(f"{place}: its label is {value}, as where a dataset keeps the labels back; use another split.")
    return names[value] if names else value.item()


def _read_conll(files: Sequence[Path]) -> Iterator[LabelledWords]:
    for path in files:
        is_empty = True
        sentence: list[tuple[str, str, str]] = []
        for number, line in read_lines(path):
            if not line.strip() or line.startswith("-DOCSTART-"):
                if sentence:
                    yield LabelledWords(*zip(*sentence, strict=True))
                sentence = []
                continue
            place = f"{path}:{number}"
            sentence.append((*_conll_columns(line, place), place))
            is_empty = False
        if sentence:
            yield LabelledWords(*zip(*sentence, strict=True))
        if is_empty:
            raise DataError(f"{path}: the file is empty; name a file with at least one word and its label.")


def _conll_columns(line: str, place: str) -> tuple[str, str]:
    columns = [one.strip(" ") for one in line.split("\t")] if "\t" in line else re.findall(r"\S+", line, re.ASCII)
    if len(columns) < 2:
        raise DataError(f"{place}: the label is missing; write a word, white space and its label.")
    _check_word(columns[0], place)
    if not columns[-1]:
        raise DataError(f"{place}: the last column is empty; write the label of {columns[0]!r} there.")
    return columns[0], columns[-1]


def _read_jsonl_words(files: Sequence[Path]) -> Iterator[LabelledWords]:
    for place, line in filled_lines(files):
        values = parse_json(line, ("words", "labels"), place)
        lists = [values["words"], values["labels"]]
        if not all(isinstance(one, list) for one in lists) or len(lists[0]) != len(lists[1]) or not lists[0]:
            raise DataError(f"{place}: `words` and `labels` must be lists of the same length, and not empty.")
        words = tuple(json_text(word, "words", place) for word in lists[0])
        for word in words:
            _check_word(word, place)
        yield LabelledWords(words, tuple(_label(one, place) for one in lists[1]), (place,) * len(words))


def _check_word(word: str, place: str) -> None:
    if [word.encode()] != word.encode().split():  # ASCII white space is what separates the words of a text
        raise DataError(f"{place}: the word {word!r} is empty, or has white space in it; make it one word, or several.")
