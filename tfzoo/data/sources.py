"""A data specification such as "tsv:train.tsv.gz" to records of strings, one at a time.

| specification | a record |
|---|---|
| `text:PATH` | a line |
| `document:PATH` | a whole file, without its last line end |
| `tsv:PATH` | a line of source<TAB>target; nothing is quoted or escaped |
| `jsonl:PATH` | a line of JSON: {"source": ..., "target": ...}, or {"text": ...} for one column; texts may hold lines |
| `tfds:NAME[/CONFIG][:SPLIT]` | a supervised pair of texts of a TensorFlow dataset; SPLIT is "train" if left out |
| `sample:NAME[:SPLIT]` | a record of a sample that an installed package carries: a pair, or a text for `python_docs` |

PATH may be a glob, whose files are read in the order of their names; `.gz` files are decompressed. Files are UTF-8,
with or without a byte order mark, with Unix or Windows line ends. Lines of white space alone are skipped wherever they
stand; in a document they count. "@0.3" behind a specification is its weight in a mixture.
"""

from __future__ import annotations

import glob
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfzoo.data.samples import SAMPLE_COLUMNS, read_sample
from tfzoo.errors import DataError, UsageError, nearest

_FIELDS = {1: ("text",), 2: ("source", "target")}


def read(spec: str, columns: int = 2) -> Iterator[tuple[str, ...]]:
    """Yields the records of a data specification, as tuples of `columns` texts that are not empty.

    What the specification names is looked up at once; the records are read as they are asked for.

    Args:
        spec: see the table above.
        columns: 2 = (source, target), 1 = (text,), a document for a language model.

    Raises:
        UsageError: an unknown scheme, sample or split, or one that has no such columns.
        DataError: missing, empty or malformed data; the message names file and line.
    """
    scheme, location = _parse(spec)
    if columns not in _FIELDS:
        raise UsageError(f"`columns` must be 1 or 2; received columns={columns}.")
    if scheme in ("text", "document") and columns != 1:
        raise UsageError(f"{spec}: `{scheme}:` has one column, and two are needed; use `tsv:` or `jsonl:`.")
    if scheme == "tfds" and columns != 2:
        raise UsageError(f"{spec}: `tfds:` has two columns, and one is needed; use `text:` or `jsonl:`.")
    if scheme in ("tfds", "sample"):
        name, _, split = location.partition(":")
        if scheme == "tfds":
            return _read_tfds(name, split or "train")
        records = read_sample(name, split or "train")
        if SAMPLE_COLUMNS[name] != columns:
            fitting = ", ".join(f"`sample:{one}`" for one, count in SAMPLE_COLUMNS.items() if count == columns)
            has, needed = ("two columns", "one is") if columns == 1 else ("one column", "two are")
            raise UsageError(f"{spec}: this sample has {has}, and {needed} needed; use {fitting}, or files of yours.")
        return records
    if scheme == "document":
        return _read_documents(_files(location))
    parse = {"text": _parse_text, "tsv": _parse_tsv, "jsonl": _parse_jsonl}[scheme]
    return _read_files(_files(location), parse, columns)


def weight(spec: str) -> float | None:
    """Returns the weight behind a specification's "@", or None when it has none.

    >>> weight("tsv:news.tsv@0.3")
    0.3

    Raises:
        UsageError: the weight is 0.
    """
    match = _WEIGHT.search(spec)
    if match is None:
        return None
    if not float(match[1]):
        raise UsageError(f"{spec}: a weight must be above 0; leave the specification out instead.")
    return float(match[1])


_SCHEMES = ("text", "document", "tsv", "jsonl", "tfds", "sample")
_WEIGHT = re.compile(r"@(\d+(?:\.\d*)?|\.\d+)$")


def _parse(spec: str) -> tuple[str, str]:
    """Returns scheme and location."""
    scheme, colon, location = _WEIGHT.sub("", spec).partition(":")
    if not colon or scheme not in _SCHEMES:
        raise UsageError(
            f"{spec!r} is no data specification: it must begin with {', '.join(f'{one}:' for one in _SCHEMES)} "
            f"such as `tsv:train.tsv`.{nearest(scheme, _SCHEMES)}"
        )
    if not location:
        raise UsageError(f"{spec!r} names nothing; write what to read behind the colon.")
    return scheme, location


def _files(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file, or a glob such as {path}/*")
    files = [path] if path.exists() else [Path(one) for one in sorted(glob.glob(pattern, recursive=True))]
    if not files:
        siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{pattern}: no such file.{nearest(path.name, siblings)}")
    return files


def _read_files(
    files: list[Path], parse: Callable[[str, int, str], tuple[str, ...]], columns: int
) -> Iterator[tuple[str, ...]]:
    for path in files:
        is_empty = True
        for number, line in _lines(path):
            if not line.strip():
                continue
            is_empty = False
            place = f"{path}:{number}"
            record = parse(line, columns, place)
            for index, text in enumerate(record, start=1):
                if not text.strip():
                    raise DataError(f"{place}: column {index} is empty; fill it in or delete the line.")
            yield record
        if is_empty:
            raise DataError(f"{path}: the file is empty; name a file with at least one line of text.")


def _read_documents(files: list[Path]) -> Iterator[tuple[str]]:
    for path in files:
        text = "\n".join(line for _, line in _lines(path))
        if not text.strip():
            raise DataError(f"{path}: the file is empty; name a file with text in it.")
        yield (text,)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line numbers from 1 and lines without their ends."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not "
                        "UTF-8; convert the file, for example with `iconv -f LATIN1 -t UTF-8`."
                    ) from error
                yield number, text.rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _parse_text(line: str, columns: int, place: str) -> tuple[str, ...]:
    return (line,)


def _parse_tsv(line: str, columns: int, place: str) -> tuple[str, ...]:
    record = tuple(line.split("\t"))
    if len(record) != columns:
        raise DataError(
            f"{place}: {len(record)} column(s) where {columns} are needed; write {'<TAB>'.join(_FIELDS[columns])}."
        )
    return record


def _parse_jsonl(line: str, columns: int, place: str) -> tuple[str, ...]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: broken JSON at character {error.colno} ({error.msg}); write one JSON object a line."
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"{place}: a JSON object is needed, not {json.dumps(values)[:40]}; write one object a line.")
    for field in _FIELDS[columns]:
        if field not in values:
            raise DataError(
                f"{place}: the field {field!r} is missing; there are {sorted(values)}.{nearest(field, values)}"
            )
        if not isinstance(values[field], str):
            raise DataError(f"{place}: the field {field!r} must be a string, not {json.dumps(values[field])[:40]}.")
        if not values[field].isascii() and re.search("[\ud800-\udfff]", values[field]):
            raise DataError(f"{place}: the field {field!r} holds half of a surrogate pair, which is no character.")
    return tuple(values[field] for field in _FIELDS[columns])


def _read_tfds(name: str, split: str) -> Iterator[tuple[str, str]]:
    try:
        import tensorflow_datasets as tfds

        rows = tfds.as_numpy(tfds.load(name, split=split, as_supervised=True))
    # TFDS raises errors of a dozen unrelated classes, from its own and the network's to ImportError.
    except Exception as error:
        raise DataError(
            f"tfds:{name}:{split} cannot be loaded ({type(error).__name__}: {_first_line(error)}). Set TFDS_DATA_DIR "
            "to the data_dir that it was prepared in, or read local files with `tsv:PATH` or `jsonl:PATH`."
        ) from error
    return (_texts(row, f"tfds:{name}:{split}") for row in rows)


def _texts(row: tuple[Any, ...], place: str) -> tuple[str, str]:
    if not all(isinstance(value, bytes) for value in row) or len(row) != 2:
        raise DataError(f"{place}: its supervised examples are not pairs of texts; use another dataset or `tsv:PATH`.")
    source, target = (value.decode() for value in row)
    return source, target


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
