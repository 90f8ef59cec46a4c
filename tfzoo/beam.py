"""The work of `tfzoo.offline` as an Apache Beam pipeline: on one machine, or on Flink, Spark or Dataflow by a flag.

Each file is an element, answered whole by one worker, so that the answers are the same files that `predict_files`
writes. Inputs, outputs and the artifact may lie on any file system that Beam knows and the workers reach; the artifact
itself must be a folder on each worker, as in a container image or on a mounted volume.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from tfzoo import runs
from tfzoo.errors import DataError
from tfzoo.offline import answers


class AnswerFile(beam.DoFn):
    """Answers one file; loads the artifact once for each worker.

    Args:
        path: the artifact's folder, as the worker sees it.
        output_dir: where answers go, on a file system that all workers share.
        runtime: see `tfzoo.load`.
        as_json: see `tfzoo.offline.predict_files`.
        options: decoding options.
    """

    def __init__(self, path: str, output_dir: str, runtime: str | None, as_json: bool, options: dict[str, Any]) -> None:
        super().__init__()
        self._path = path
        self._output_dir = output_dir
        self._runtime = runtime
        self._as_json = as_json
        self._options = options

    def setup(self) -> None:
        """Loads the artifact."""
        self._predictor = runs.load(self._path, self._runtime)

    def process(self, source: str) -> Iterator[str]:
        """Yields the path of the file with the answers, once it is whole; skips one that is there."""
        name = Path(source).name.removesuffix(".gz") + (".jsonl" if self._as_json else "")
        target = FileSystems.join(self._output_dir, name)
        if not FileSystems.exists(target):
            # One name for each attempt: a runner may try an element twice at once.
            aside = FileSystems.join(self._output_dir, f".{name}.{os.getpid()}.part")
            with (
                FileSystems.open(source, compression_type=CompressionTypes.AUTO) as lines,
                FileSystems.create(aside, compression_type=CompressionTypes.UNCOMPRESSED) as file,
            ):
                binary_lines = iter(lines.readline, b"")  # Beam's decompressed files do not iterate
                for answer in answers(self._predictor, binary_lines, source, 1, self._as_json, self._options):
                    file.write(answer)
            FileSystems.rename([aside], [target])
        yield target


def run_pipeline(
    path: str | os.PathLike[str],
    inputs: Sequence[str],
    output_dir: str,
    *,
    pipeline_options: Sequence[str] = (),
    runtime: str | None = None,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Answers each line of each file with a line, on a Beam runner.

    Args:
        path: the artifact's folder, as each worker sees it.
        inputs: files or globs on a file system of Beam's.
        output_dir: where the answers go, as `predict_files` names them; files that are there are skipped.
        pipeline_options: Beam's own flags, such as "--runner=FlinkRunner"; without one, Beam's DirectRunner.
        runtime: see `tfzoo.load`.
        as_json: see `tfzoo.offline.predict_files`.
        **options: decoding options that differ from the artifact's.

    Raises:
        DataError: an input matches no file.
    """
    sources = []
    for pattern in inputs:
        (match,) = FileSystems.match([pattern])
        if not match.metadata_list:
            raise DataError(f"{pattern}: no such file on Beam's file system; name files, or a glob in quotes.")
        sources += [metadata.path for metadata in match.metadata_list]
    if not FileSystems.exists(output_dir):
        FileSystems.mkdirs(output_dir)
    flags = PipelineOptions(list(pipeline_options))
    flags.view_as(SetupOptions).save_main_session = False
    with beam.Pipeline(options=flags) as pipeline:
        _ = (
            pipeline
            | "files" >> beam.Create(sources)
            | "spread" >> beam.Reshuffle()
            | "answer" >> beam.ParDo(AnswerFile(os.fspath(path), output_dir, runtime, as_json, options))
        )
