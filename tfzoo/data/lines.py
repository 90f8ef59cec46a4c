"""Lines of text files, and the columns or fields that they hold; each with the place that an error names.

Files are UTF-8, with or without a byte order mark, with Unix or Windows line ends; `.gz` files are decompressed.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tfzoo.errors import DataError, nearest

Fields = tuple[str, ...]
"""Names of the texts of a record: columns of TSV, fields of JSON."""


class Part(NamedTuple):
    """The lines of a file that begin from byte `start` on and before byte `end`; None = all that follow.

    Lines are numbered from 1 in the part.
    """

    path: Path
    start: int = 0
    end: int | None = None

    def place(self, number: int) -> str:
        """Where a line is, for an error."""
        return f"{self.path}:{number}" if not self.start else f"{self.path}: line {number} behind byte {self.start}"


def filled_lines(files: Iterable[Path | Part]) -> Iterator[tuple[str, str]]:
    """Yields place, such as "a.tsv:7", and line, of each line that is not white space alone.

    Raises:
        DataError: a file without such a line, or one that cannot be read; while it is read.
    """
    for file in files:
        part = file if isinstance(file, Part) else Part(file)
        is_empty = part.end is None
        for number, line in read_lines(part):
            if line.strip():
                is_empty = False
                yield part.place(number), line
        if is_empty:
            raise DataError(f"{part.path}: the file is empty; name a file with at least one line of text.")


def check_filled(record: Iterable[str], place: str) -> None:
    """Raises DataError when a column is empty."""
    for index, text in enumerate(record, start=1):
        if not text.strip():
            raise DataError(f"{place}: column {index} is empty; fill it in or delete the line.")


def read_lines(file: Path | Part) -> Iterator[tuple[int, str]]:
    """Yields line numbers from 1 and lines without their ends.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    part = file if isinstance(file, Part) else Part(file)
    path = part.path
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(_lines_of(lines, part), start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 and not part.start else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{part.place(number)}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not "
                        "UTF-8; convert the file, for example with `iconv -f LATIN1 -t UTF-8`."
                    ) from error
                yield number, text.rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _lines_of(lines: BinaryIO | gzip.GzipFile, part: Part) -> Iterator[bytes]:
    if part.end is None and not part.start:
        yield from lines
        return
    position = part.start
    if part.start:
        lines.seek(part.start - 1)
        position += len(lines.readline()) - 1  # the line that began before
    for line in lines:
        if part.end is not None and position >= part.end:
            return
        yield line
        position += len(line)


def parse_tsv(line: str, fields: Fields, place: str) -> tuple[str, ...]:
    """Returns the columns of a line.

    Raises:
        DataError: there are more or fewer than `fields`.
    """
    record = tuple(line.split("\t"))
    if len(record) != len(fields):
        raise DataError(
            f"{place}: {len(record)} column(s) where {len(fields)} are needed; write {'<TAB>'.join(fields)}."
        )
    return record


def parse_json(line: str, fields: Fields, place: str) -> dict[str, Any]:
    """Returns the JSON object of a line, which has at least `fields`.

    Raises:
        DataError: broken JSON, no object, or a field is missing.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: broken JSON at character {error.colno} ({error.msg}); write one JSON object a line."
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"{place}: a JSON object is needed, not {json.dumps(values)[:40]}; write one object a line.")
    for field in fields:
        if field not in values:
            raise DataError(
                f"{place}: the field {field!r} is missing; there are {sorted(values)}.{nearest(field, values)}"
            )
    return values


def json_text(value: Any, field: str, place: str) -> str:
    """Returns the value of a field, a string of whole characters.

    Raises:
        DataError: it is none.
    """
    if not isinstance(value, str):
        raise DataError(f"{place}: the field {field!r} must be a string, not {json.dumps(value)[:40]}.")
    if not value.isascii() and re.search("[\ud800-\udfff]", value):
        raise DataError(f"{place}: the field {field!r} holds half of a surrogate pair, which is no character.")
    return value
