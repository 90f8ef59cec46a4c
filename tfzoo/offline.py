"""Answers for many files: streamed in constant memory, with progress, resumable.

A file is the unit of work. Its answers are written into a hidden `.NAME.part` beside their place, which gets its name
when all are there. A second call skips files that are done and goes on within the one that was interrupted.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from tfzoo import runs
from tfzoo.errors import DataError, UsageError
from tfzoo.folders import claim
from tfzoo.run_folder import Run
from tfzoo.runtime.loaded import Loaded

JOB = ".predict.json"  # what a folder of answers was made with


def predict_files(
    path: str | os.PathLike[str],
    inputs: Sequence[str],
    output_dir: str | os.PathLike[str],
    *,
    runtime: str | None = None,
    as_json: bool = False,
    verbose: bool = True,
    **options: Any,
) -> list[Path]:
    """Answers each line of each file with a line.

    Args:
        path: the folder of a run or an artifact.
        inputs: files of UTF-8 text, or globs; `.gz` is decompressed.
        output_dir: gets one file for each, of the same name without `.gz`, with `.jsonl` behind it for JSON.
        runtime: see `tfzoo.load`.
        as_json: an object a line, as `tfzoo.predict` yields it, instead of the best output.
        verbose: whether to show a progress bar on a terminal.
        **options: decoding options that differ from the recipe's.

    Returns: the files with the answers, in the order of the inputs.

    Raises:
        UsageError: two inputs of one name, or a folder with answers made otherwise.
        DataError: no such file, or a line that is not UTF-8; what was answered before it is kept.
    """
    tasks = plan(inputs, Path(output_dir), as_json)
    made_with = {"model": _fingerprint(Path(path)), "as_json": as_json, "runtime": runtime, "options": options}
    claim(Path(output_dir), JOB, made_with)
    predictor = runs.load(path, runtime)
    open_tasks = {source: target for source, target in tasks.items() if not target.exists()}
    total = sum(map(_count_lines, open_tasks)) if verbose else None
    with tqdm(desc="answering", total=total, unit=" lines", disable=None if verbose else True) as progress:
        for source, target in open_tasks.items():
            answer_file(predictor, source, target, as_json, options, progress.update)
    return list(tasks.values())


def plan(inputs: Sequence[str], output_dir: Path, as_json: bool) -> dict[Path, Path]:
    """Input file -> file with its answers, for all files that the inputs name.

    Raises:
        DataError: an input names no file.
        UsageError: two inputs would be answered in one file.
    """
    tasks: dict[Path, Path] = {}
    for pattern in inputs:
        found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern)))
        if not found:
            raise DataError(f"{pattern}: no such file; name files, or a glob in quotes such as 'texts/*.txt'.")
        for name in found:
            target = output_dir / (Path(name).name.removesuffix(".gz") + (".jsonl" if as_json else ""))
            if target in tasks.values():
                raise UsageError(f"two inputs would be answered in {target}; rename one, or answer them apart.")
            tasks[Path(name)] = target
    return tasks


def _fingerprint(path: Path) -> str:
    """Digest of what the model is: an artifact's manifest, or a run's checkpoints."""
    manifest = path / "manifest.json"
    if manifest.is_file():
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    return ", ".join(f"{one.sha256} of step {one.step}" for one in Run(path).checkpoints)


def answer_file(
    predictor: Loaded,
    source: Path,
    target: Path,
    as_json: bool,
    options: dict[str, Any],
    on_lines: Callable[[int], Any] = lambda count: None,
) -> None:
    """Answers one file, from where an interrupted call stopped.

    Args:
        predictor: a run or an artifact.
        source: the file with the inputs.
        target: the file with the answers; appears when it is whole.
        as_json: see `predict_files`.
        options: decoding options.
        on_lines: called with the number of lines that were answered since the call before.
    """
    aside = target.with_name(f".{target.name}.part")
    num_done = _drop_broken_line(aside)
    on_lines(num_done)
    with _open(source) as lines, aside.open("ab") as file:
        rest = itertools.islice(lines, num_done, None)
        for answer in answers(predictor, rest, source, num_done + 1, as_json, options):
            file.write(answer)
            file.flush()
            on_lines(1)
    aside.replace(target)


def answers(
    predictor: Loaded,
    lines: Iterable[bytes],
    name: str | os.PathLike[str],
    first: int,
    as_json: bool,
    options: dict[str, Any],
) -> Iterator[bytes]:
    """Yields an answer, with its line end, for each line.

    Args:
        predictor: a run or an artifact.
        lines: UTF-8 with line ends.
        name: of the file, for errors.
        first: number of the first line, for errors.
        as_json: see `predict_files`.
        options: decoding options.
    """
    for found in runs.answer(predictor, decode_lines(lines, name, first), **options):
        yield f"{as_line(found, as_json)}\n".encode()


def as_line(answer: dict[str, Any], as_json: bool) -> str:
    """Returns an answer of `runs.answer` as one line, though an output may hold any character of the vocabulary.

    Without JSON, labels stand with commas between them, and numbers with spaces.
    """
    if as_json:
        return json.dumps(answer, ensure_ascii=False)
    output = answer["output"]
    if isinstance(output, list):
        is_text = all(isinstance(one, str) for one in output)
        return ",".join(output) if is_text else " ".join(f"{one:.9g}" for one in output)
    return " ".join(output.splitlines()) if isinstance(output, str) else f"{output:.9g}"


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _count_lines(path: Path) -> int:
    with _open(path) as file:
        return sum(1 for _ in file)


def decode_lines(lines: Iterable[bytes], name: str | os.PathLike[str], first: int = 1) -> Iterator[str]:
    """Yields lines of UTF-8 without their ends.

    Args:
        lines: with their ends.
        name: of the file, for the error.
        first: number of the first line, for the error.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(lines, start=first):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            place = f"{os.fspath(name)}:{number}"
            raise DataError(f"{place}: not UTF-8 ({error.reason} at byte {error.start + 1}).") from error


def _drop_broken_line(path: Path) -> int:
    """Cuts what a killed process wrote of its last line; returns the number of whole lines before."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        num_lines = end = 0
        for line in file:
            if line.endswith(b"\n"):
                num_lines += 1
                end += len(line)
        file.truncate(end)
    return num_lines
