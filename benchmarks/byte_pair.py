"""Byte-pair tokenizers side by side: MB of UTF-8 text a second, and what the graph costs to export and to serve.

    python benchmarks/byte_pair.py [--vocabulary=DIR] [--corpus=FILE] [--output=benchmarks/results/byte_pair.json]

Without a vocabulary one of 8,000 ids is trained on the corpus; without a corpus that is the source code of Python's
standard library. All tokenize the same lines; ids are compared first; they are timed in turn, the best of three counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import keras_hub
import tensorflow as tf
import tokenizers as hf

from tfzoo import text

NUM_RUNS = 3
NUM_CHECKED = 2000  # lines
CHUNK = 4096  # lines, as the corpus of a training run is tokenized
NUM_REQUESTS = 100


def main() -> None:
    """Measures, and writes the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocabulary", type=Path, help="folder of vocabulary and merges; default: train one")
    parser.add_argument("--corpus", type=Path, help="UTF-8 text; default: Python's standard library")
    parser.add_argument("--max_bytes", type=int, default=2_000_000, help="of the corpus")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/byte_pair.json"))
    arguments = parser.parse_args()

    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    corpus = b"".join(one.read_bytes() for one in ([arguments.corpus] if arguments.corpus else library))
    lines = corpus[: arguments.max_bytes].decode("utf-8", "ignore").split("\n")
    num_bytes = sum(len(line.encode()) for line in lines)
    tokenizer = (
        text.load(arguments.vocabulary) if arguments.vocabulary else text.BytePairTokenizer.train(lines[:20_000], 8000)
    )
    files = tokenizer.assets()
    encoder = hf.Tokenizer.from_str(files["tokenizer.json"].decode())
    merges = files["merges.txt"].decode().removesuffix("\n").split("\n")[1:]
    hub = keras_hub.tokenizers.BytePairTokenizer(json.loads(files["vocab.json"]), merges)
    num_different = check(tokenizer, encoder, hub, lines[:NUM_CHECKED])
    candidates: dict[str, Callable[[], Any]] = {
        "tfzoo encode, a line a call": lambda: [tokenizer.encode(line) for line in lines],
        "tfzoo tokenize, eager": lambda: [tokenizer.tokenize(tf.constant(chunk)) for chunk in chunks(lines)],
        "tfzoo tokenize, in tf.data": lambda: drain(lines, tokenizer.tokenize),
        "tokenizers encode, a line a call": lambda: [encoder.encode(line).ids for line in lines],
        "tokenizers encode_batch_fast": lambda: [
            one.ids for chunk in chunks(lines) for one in encoder.encode_batch_fast(chunk)
        ],
        "keras_hub BytePairTokenizer, in tf.data": lambda: drain(lines, hub),
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(NUM_RUNS):
        for name, run in candidates.items():
            seconds[name].append(timed(run))
    # Files by name alone: where they lie on this machine tells nobody anything.
    given = [
        f"--{name}={getattr(value, 'name', value)}" for name, value in vars(arguments).items() if value is not None
    ]
    # Of lines that no tokenizer saw: keras_hub's remembers words.
    requests = [f"{line} {index * 7919}" for index, line in enumerate(lines[-NUM_REQUESTS:])]
    result = {
        "corpus": {"file": arguments.corpus.name if arguments.corpus else "standard library", "bytes": num_bytes},
        "vocabulary_size": tokenizer.vocabulary_size,
        "lines_of_other_ids": {"checked": len(lines[:NUM_CHECKED]), "tfzoo": 0, "keras_hub": num_different},
        "megabytes_per_second": {name: round(num_bytes / 1e6 / min(taken), 3) for name, taken in seconds.items()},
        "saved_model": {
            "tfzoo": export(tokenizer.trackable(), tokenizer.tokenize, requests),
            "keras_hub": export(hub, hub, requests),
        },
        "command": " ".join(["python benchmarks/byte_pair.py", *given]),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tensorflow", "keras-hub", "tokenizers", "tfzoo")},
        },
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def check(
    tokenizer: text.BytePairTokenizer,
    encoder: hf.Tokenizer,
    hub: keras_hub.tokenizers.BytePairTokenizer,
    lines: list[str],
) -> int:
    """Returns the number of lines to which keras_hub gives other ids than `tokenizers`; ours must give the same."""
    expected = [one.ids for one in encoder.encode_batch(lines)]
    for ids in ([tokenizer.encode(line) for line in lines], tokenizer.tokenize(tf.constant(lines)).to_list()):
        different = [line for line, one, other in zip(lines, ids, expected, strict=True) if one != other]
        if different:
            raise SystemExit(f"tfzoo and tokenizers differ on {len(different)} lines, first on {different[0]!r}.")
    dataset = tf.data.Dataset.from_tensor_slices(lines).batch(CHUNK).map(hub)
    hub_ids = [row for batch in dataset for row in batch.to_list()]
    return sum(one != other for one, other in zip(hub_ids, expected, strict=True))


def export(trackable: Any, tokenize: Callable[[tf.Tensor], tf.RaggedTensor], requests: list[str]) -> dict[str, float]:
    """Seconds to export and to load, size on disk, and milliseconds for a request of one line (the median)."""
    with tempfile.TemporaryDirectory() as directory:

        def write() -> None:
            archive = keras.export.ExportArchive()
            archive.track(trackable)
            archive.add_endpoint(
                "serve",
                lambda source: {"token_ids": tokenize(source).to_tensor()},
                input_signature=[tf.TensorSpec((None,), tf.string, name="source")],
            )
            archive.write_out(directory, verbose=False)

        export_seconds = timed(write)
        start = time.perf_counter()
        serve = tf.saved_model.load(directory).signatures["serve"]
        load_seconds = time.perf_counter() - start
        taken = [timed(functools.partial(serve, source=tf.constant([one]))) for one in requests]
        return {
            "export_seconds": round(export_seconds, 2),
            "load_seconds": round(load_seconds, 2),
            "megabytes": round(sum(one.stat().st_size for one in Path(directory).rglob("*") if one.is_file()) / 1e6, 2),
            "first_request_ms": round(taken[0] * 1e3, 2),
            "request_ms": round(statistics.median(taken[1:]) * 1e3, 3),
        }


def chunks(lines: list[str]) -> Iterator[list[str]]:
    """Yields CHUNK lines at a time."""
    return (lines[at : at + CHUNK] for at in range(0, len(lines), CHUNK))


def drain(lines: list[str], tokenize: Callable[[tf.Tensor], tf.RaggedTensor]) -> None:
    """Tokenizes all lines in a `tf.data` pipeline."""
    dataset = tf.data.Dataset.from_tensor_slices(lines).batch(CHUNK).map(tokenize, num_parallel_calls=tf.data.AUTOTUNE)
    for _ in dataset.prefetch(tf.data.AUTOTUNE):
        pass


def timed(run: Callable[[], Any]) -> float:
    """Returns seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
