"""The records of a run in files: metrics.jsonl for programs, TensorBoard's for people.

RUN_DIR/metrics.jsonl              one record a line
RUN_DIR/tensorboard/train/         each number along the steps
RUN_DIR/tensorboard/validation/    those that begin with val_, under the names of training, to lie over them
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from tfzoo.training.measures import Record


class RecordFiles:
    """Writes records, one by one, behind those that the run has.

    Args:
        run_dir: folder of the run; made if missing.
        history: the records so far; metrics.jsonl is written anew from them.
    """

    def __init__(self, run_dir: Path, history: Iterable[Record]) -> None:
        self._run_dir = run_dir
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        run_dir.mkdir(parents=True, exist_ok=True)
        self._metrics_path.write_text("".join(map(_json_line, history)), encoding="utf-8")

    @property
    def _metrics_path(self) -> Path:
        return self._run_dir / "metrics.jsonl"

    def add(self, record: Record) -> None:
        """Writes one more record."""
        with self._metrics_path.open("a", encoding="utf-8") as file:
            file.write(_json_line(record))
        for name, value in record.items():
            folder = "validation" if name.startswith("val_") else "train"
            if folder not in self._writers:
                self._writers[folder] = tf.summary.create_file_writer(str(self._run_dir / "tensorboard" / folder))
            with self._writers[folder].as_default():
                tf.summary.scalar(name.removeprefix("val_"), value, step=int(record["step"]))
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes TensorBoard's files."""
        for writer in self._writers.values():
            writer.close()


def _json_line(record: Record) -> str:
    return json.dumps(record) + "\n"
