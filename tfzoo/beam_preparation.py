"""The work of `tfzoo.preparation` as an Apache Beam pipeline: on one machine, or on Flink, Spark or Dataflow by a flag.

The transforms are those of the local call, and so are the shards: units of the input are read and cleaned, records are
grouped by the partition that their hash puts them in, and each partition is tokenized and written by one worker. The
tokenizer is a given one, since training it is one machine's work. Data and output folder are paths that all workers
share, as on a mounted volume.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from tfzoo import corpus_folder, preparation
from tfzoo.data import partitions
from tfzoo.data.partitions import Item, Job, Unit
from tfzoo.data.prepared import TOKENIZER
from tfzoo.recipes.recipe import Recipe
from tfzoo.text import TokenizerPair


class ReadUnit(beam.DoFn):
    """Yields the records of a unit by their partition: (partition, (hash, unit, place in it, origin, texts)).

    Args:
        job: what is prepared.
        directory: of the corpus; gets what was counted.
    """

    def __init__(self, job: Job, directory: str) -> None:
        super().__init__()
        self._job = job
        self._directory = Path(directory)

    def process(self, element: tuple[int, Unit]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Reads a unit."""
        index, unit = element
        counts: dict[str, int] = {}
        records = partitions.read_unit(self._job, unit)
        for place, item in enumerate(partitions.items(self._job, unit.origin, records, counts)):
            yield self._job.shard_of(item), (item.digest, index, place, item.origin, item.texts)
        corpus_folder.note_unit(index, counts, self._directory)


class WriteShard(beam.DoFn):
    """Writes the shard of a partition, unless it is there; loads the tokenizer once for each worker.

    Args:
        job: what is prepared.
        directory: of the corpus.
    """

    def __init__(self, job: Job, directory: str) -> None:
        super().__init__()
        self._job = job
        self._directory = Path(directory)

    def setup(self) -> None:
        """Loads the tokenizer."""
        self._tokenizer = TokenizerPair.load(self._directory / TOKENIZER)

    def process(self, element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[int]:
        """Yields the number of the shard."""
        index, grouped = element
        records = (Item(digest, origin, texts) for digest, _, _, origin, texts in sorted(grouped["records"]))
        corpus_folder.write_shard(self._job, index, records, lambda: self._tokenizer, self._directory)
        yield index


def prepare_by_beam(
    recipe: Recipe,
    output_dir: str | os.PathLike[str],
    *,
    data: Sequence[str] | str = (),
    tokenizer: str | os.PathLike[str],
    num_shards: int | None = None,
    pipeline_options: Sequence[str] = (),
) -> dict[str, Any]:
    """Prepares a corpus as `tfzoo.prepare` does, on a Beam runner; called again, it writes the shards that lack.

    Args:
        recipe: see there.
        output_dir: an absent or empty folder that all workers share, or that of an interrupted call.
        data: one data specification or several, of files that all workers share.
        tokenizer: the folder of a run, an artifact, another prepared corpus or a tokenizer.
        num_shards: see there; a worker holds the records of one in memory.
        pipeline_options: Beam's own flags, such as "--runner=FlinkRunner"; without one, Beam's DirectRunner.

    Returns: the statistics.

    Raises:
        UsageError: see there.
        ArtifactError: the same.
        DataError: the same; for what is seen only while the pipeline runs, what its runner makes of it.
    """
    recipe, job, units = preparation.plan(recipe, data, num_shards)
    given = preparation.load_tokenizer(job, tokenizer)
    directory = Path(output_dir).resolve()
    if (statistics := corpus_folder.begin(directory, recipe, job, units, given)) is not None:
        return statistics
    corpus_folder.save_tokenizer(given, directory)
    flags = PipelineOptions(list(pipeline_options))
    flags.view_as(SetupOptions).save_main_session = False
    with beam.Pipeline(options=flags) as pipeline:
        records = (
            pipeline
            | "units" >> beam.Create(list(enumerate(units)))
            | "spread" >> beam.Reshuffle()
            | "read" >> beam.ParDo(ReadUnit(job, str(directory)))
        )
        # Partitions without a record are shards, too.
        every = pipeline | "partitions" >> beam.Create([(index, None) for index in range(job.num_shards)])
        _ = (
            {"records": records, "every": every}
            | "group" >> beam.CoGroupByKey()
            | "write" >> beam.ParDo(WriteShard(job, str(directory)))
        )
    return corpus_folder.finish(recipe, job, directory, is_trained=False)
