"""A data specification such as "tsv:train.tsv.gz" to records of strings, one at a time.

| specification | a record |
|---|---|
| `text:PATH` | a line |
| `document:PATH` | a whole file, without its last line end |
| `tsv:PATH` | a line of source<TAB>target; nothing is quoted or escaped |
| `jsonl:PATH` | a line of JSON: {"source": ..., "target": ...}, or {"text": ...} for one column; texts may hold lines |
| `back_translated:PATH` | a line that `tfzoo predict --json` wrote: its output, if there is one, and then its input |
| `tfds:NAME[/CONFIG][:SPLIT]` | a supervised pair of texts of a TensorFlow dataset; SPLIT is "train" if left out |
| `sample:NAME[:SPLIT]` | a record of a sample that an installed package carries: a pair, or a text for `python_docs` |
| `conll:PATH` | a sentence of labelled words; see `tfzoo.data.labelled` for it and for texts with labels |
| `squad:PATH` | a question with its context and answers; see `tfzoo.data.squad` |
| `prepared:DIR` | token ids that `tfzoo prepare` wrote, to train and validate on; see `tfzoo.data.prepared` |

PATH may be a glob, whose files are read in the order of their names; `.gz` files are decompressed. Files are UTF-8,
with or without a byte order mark, with Unix or Windows line ends. Lines of white space alone are skipped wherever they
stand; in a document they count. "@0.3" behind a specification is its weight in a mixture.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfzoo.data.lines import Fields, Part, check_filled, filled_lines, json_text, parse_json, parse_tsv, read_lines
from tfzoo.data.samples import SAMPLE_COLUMNS, read_sample
from tfzoo.errors import DataError, UsageError, nearest

_FIELDS = {1: ("text",), 2: ("source", "target")}
_ANSWER = ("output", "input")


def read(
    spec: str, columns: int = 2, fields: Fields | None = None, parts: Sequence[Part] = ()
) -> Iterator[tuple[str, ...]]:
    """Yields the records of a data specification, as tuples of `columns` texts that are not empty.

    What the specification names is looked up at once; the records are read as they are asked for.

    Args:
        spec: see the table above.
        columns: 2 = (source, target), 1 = (text,), a document for a language model.
        fields: other names for the two than those.
        parts: those of `parts_of` to read alone; none = everything.

    Raises:
        UsageError: an unknown scheme, sample or split, or one that has no such columns.
        DataError: missing, empty or malformed data; the message names file and line.
    """
    scheme, location = parse_spec(spec)
    if scheme == "conll":
        raise UsageError(f"{spec}: `conll:` holds labelled words, not texts; use `text:`, `tsv:` or `jsonl:`.")
    if scheme == "squad":
        raise UsageError(f"{spec}: `squad:` holds questions and answers, for the task 'question_answering' alone.")
    if scheme == "prepared":
        raise UsageError(f"{spec}: `prepared:` holds token ids, not texts: it is for training and validation alone.")
    if columns not in _FIELDS:
        raise UsageError(f"`columns` must be 1 or 2; received columns={columns}.")
    if scheme in ("text", "document") and columns != 1:
        raise UsageError(f"{spec}: `{scheme}:` has one column, and two are needed; use `tsv:` or `jsonl:`.")
    if scheme in ("tfds", "back_translated") and columns != 2:
        raise UsageError(f"{spec}: `{scheme}:` has two columns, and one is needed; use `text:` or `jsonl:`.")
    if scheme in ("tfds", "sample"):
        name, _, split = location.partition(":")
        if scheme == "tfds":
            return _read_tfds_pairs(name, split or "train")
        records = read_sample(name, split or "train")
        if SAMPLE_COLUMNS[name] != columns:
            fitting = ", ".join(f"`sample:{one}`" for one, count in SAMPLE_COLUMNS.items() if count == columns)
            has, needed = ("two columns", "one is") if columns == 1 else ("one column", "two are")
            raise UsageError(f"{spec}: this sample has {has}, and {needed} needed; use {fitting}, or files of yours.")
        return records
    files = parts or [Part(path) for path in find_files(location)]
    if scheme == "document":
        return _read_documents(files)
    if scheme == "back_translated":
        return _read_files(files, _parse_jsonl, _ANSWER, drop_empty=True)
    parse = {"text": _parse_text, "tsv": parse_tsv, "jsonl": _parse_jsonl}[scheme]
    return _read_files(files, parse, fields or _FIELDS[columns])


def parts_of(spec: str, size: int) -> list[Part]:
    """Returns the files of a specification, those of lines in parts of `size` bytes; none if it names no files.

    Args:
        spec: see `read`.
        size: most bytes of a part; a compressed file and a document are one part each.

    Raises:
        UsageError: an unknown scheme, or nothing named.
        DataError: there is no such file.
    """
    scheme, location = parse_spec(spec)
    if scheme in ("tfds", "sample", "prepared"):
        return []
    parts = []
    for path in find_files(location):
        num_bytes = path.stat().st_size
        if scheme == "document" or path.suffix == ".gz" or num_bytes <= size:
            parts.append(Part(path))
            continue
        # Whether a file has no line with text in it is then for its first part to say.
        parts += [Part(path, start, min(start + size, num_bytes)) for start in range(0, num_bytes, size)]
    return parts


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


SCHEMES = ("text", "document", "tsv", "jsonl", "back_translated", "tfds", "sample", "conll", "squad", "prepared")
_WEIGHT = re.compile(r"@(\d+(?:\.\d*)?|\.\d+)$")


def mixture(specs: Sequence[str]) -> list[float] | None:
    """Returns the weight of each specification, 1 where it has none; None where none has one, so each record counts.

    >>> mixture(["tsv:news.tsv@0.3", "tsv:talks.tsv"])
    [0.3, 1.0]

    Raises:
        UsageError: no specification, or a weight of 0.
    """
    if not specs:
        raise UsageError("`specs` is empty; name at least one, such as `tsv:train.tsv`.")
    weights = [weight(spec) for spec in specs]
    return None if weights == [None] * len(specs) else [1.0 if one is None else one for one in weights]


def parse_spec(spec: str) -> tuple[str, str]:
    """Returns scheme and location of a data specification, without its weight.

    Raises:
        UsageError: an unknown scheme, or no location.
    """
    scheme, colon, location = _WEIGHT.sub("", spec).partition(":")
    if not colon or scheme not in SCHEMES:
        raise UsageError(
            f"{spec!r} is no data specification: it must begin with {', '.join(f'{one}:' for one in SCHEMES)} "
            f"such as `tsv:train.tsv`.{nearest(scheme, SCHEMES)}"
        )
    if not location:
        raise UsageError(f"{spec!r} names nothing; write what to read behind the colon.")
    return scheme, location


def find_files(pattern: str) -> list[Path]:
    """Returns the file of that name, or the files that the glob finds, by name.

    Raises:
        DataError: there is none.
    """
    path = Path(pattern)
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file, or a glob such as {path}/*")
    files = [path] if path.exists() else [Path(one) for one in sorted(glob.glob(pattern, recursive=True))]
    if not files:
        siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{pattern}: no such file.{nearest(path.name, siblings)}")
    return files


def _read_files(
    files: Sequence[Part],
    parse: Callable[[str, Fields, str], tuple[str, ...]],
    fields: Fields,
    drop_empty: bool = False,
) -> Iterator[tuple[str, ...]]:
    for place, line in filled_lines(files):
        record = parse(line, fields, place)
        if drop_empty and not record[0].strip():
            continue
        check_filled(record, place)
        yield record


def _read_documents(files: Sequence[Part]) -> Iterator[tuple[str]]:
    for path, *_ in files:
        text = "\n".join(line for _, line in read_lines(path))
        if not text.strip():
            raise DataError(f"{path}: the file is empty; name a file with text in it.")
        yield (text,)


def _parse_text(line: str, fields: Fields, place: str) -> tuple[str, ...]:
    return (line,)


def _parse_jsonl(line: str, fields: Fields, place: str) -> tuple[str, ...]:
    values = parse_json(line, fields, place)
    return tuple(json_text(values[field], field, place) for field in fields)


def load_tfds(name: str, split: str, **options: Any) -> Any:
    """Returns what `tfds.load` does.

    Raises:
        DataError: it fails, in whichever way.
    """
    try:
        import tensorflow_datasets as tfds

        return tfds.load(name, split=split, **options)
    # TFDS raises errors of a dozen unrelated classes, from its own and the network's to ImportError.
    except Exception as error:
        raise DataError(
            f"tfds:{name}:{split} cannot be loaded ({type(error).__name__}: {_first_line(error)}). Set TFDS_DATA_DIR "
            "to the data_dir that it was prepared in, or read local files with `tsv:PATH` or `jsonl:PATH`."
        ) from error


def _read_tfds_pairs(name: str, split: str) -> Iterator[tuple[str, str]]:
    rows = load_tfds(name, split, as_supervised=True).as_numpy_iterator()
    return (_texts(row, f"tfds:{name}:{split}") for row in rows)


def _texts(row: tuple[Any, ...], place: str) -> tuple[str, str]:
    if not all(isinstance(value, bytes) for value in row) or len(row) != 2:
        raise DataError(f"{place}: its supervised examples are not pairs of texts; use another dataset or `tsv:PATH`.")
    source, target = (value.decode() for value in row)
    return source, target


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
