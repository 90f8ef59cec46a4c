"""Answers each line of a text with a line: a file's, those of standard input, or those typed.

    echo tensor | tfzoo predict --run_dir=runs/g2p
    tfzoo predict --artifact=exports/en-de --runtime=onnx --input=sentences.txt --num_beams=4 --json

The decoding flags that are left out come from the recipe.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from absl import flags

from tfzoo.cli.flags import (
    decoding_overrides,
    define_decoding,
    define_runtime,
    define_source,
    imports_tensorflow,
    source,
)
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.errors import DataError


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    define_source(flag_values)
    define_runtime(flag_values)
    flags.DEFINE_string("input", None, "a UTF-8 text file; standard input when left out", flag_values=flag_values)
    flags.DEFINE_bool("json", False, "print one JSON object a line, with the score", flag_values=flag_values)
    define_decoding(flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prints the answers as they come."""
    path = source(flag_values)
    with contextlib.ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer
        if flag_values.input is not None:
            file = stack.enter_context(open(flag_values.input, "rb"))
        if imports_tensorflow(flag_values):
            import_tensorflow()
        from tfzoo import runs

        options = decoding_overrides(flag_values)
        if file.isatty():
            options["batch_size"] = 1
        lines = _decode(file, flag_values.input or "standard input")
        answers = runs.predict(path, lines, runtime=flag_values.runtime, **options)
        if file.isatty():
            print("one text a line; Ctrl-D ends", file=sys.stderr)
        for answer in answers:
            print(json.dumps(answer, ensure_ascii=False) if flag_values.json else answer["output"], flush=True)


def _decode(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}:{number}: not UTF-8 ({error.reason} at byte {error.start + 1}).") from error
