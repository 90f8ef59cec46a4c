"""`tfzoo prepare` and what it feeds: MB of UTF-8 text a second, memory, and how long a training step waits for data.

    python -m benchmarks.prepare speed [--megabytes=128] [--num_workers 1 2]
    python -m benchmarks.prepare memory [--megabytes=1000] [--num_workers 2]
    python -m benchmarks.prepare input [--megabytes=16] [--recipe=gpt2_tiny] [--num_steps=50]

The text is synthetic: documents of 20 to 300 words, drawn by Zipf's law from 50,000 made-up ones, every tenth document
twice. All use one byte-pair vocabulary of 8,000 ids.

"speed" is compared with what one would write without tfzoo: Python reads lines, drops those whose hash it has seen,
has the package `tokenizers` encode them in batches, and writes TFRecords. The resulting examples are compared first.
Times hold the start of processes and of TensorFlow, which both sides need; processor seconds are those of all threads
and processes, and say more than the clock on a machine that does other things as well. By default there are four
shards, which two processes can share.

"memory" is the proportional set size (PSS) of all processes of the command together, read twice a second; the greatest
counts. "input" times training steps on the prepared corpus, and on one batch of it that is held in memory: the
difference is what a step waits for data.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.recording import write
from tfzoo.data.partitions import SHARD_BYTES

MEGABYTE = 1_000_000
MEGABYTES = {"speed": 128, "memory": 1000, "input": 16}
CHUNK = 1000  # documents that `tokenizers` encodes at once
VOCABULARY_SIZE = 8000
NUM_WORDS = 50_000
SET = f"--set=model.vocabulary_size={VOCABULARY_SIZE}"
DEDUPLICATE = "--set=data.cleaning=exact_duplicates"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and writes the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=[*MEGABYTES])
    parser.add_argument(
        "--megabytes", type=float, help="of text; default: 128 for speed, 1000 for memory, 16 for input"
    )
    parser.add_argument("--num_workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--recipe", default="gpt2_tiny", help="what is trained")
    parser.add_argument("--num_steps", type=int, default=50, help="that are timed")
    parser.add_argument("--folder", type=Path, help="for the text and the corpus; default: a temporary one")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/prepare_WHAT.json")
    given = parser.parse_args(arguments)
    megabytes = given.megabytes or MEGABYTES[given.what]
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        num_bytes = write_text(folder / "text.txt", int(megabytes * MEGABYTE))
        tokenizer = train_tokenizer(folder)
        measure: dict[str, Callable[[], dict[str, Any]]] = {
            "speed": lambda: speed(folder, tokenizer, given.num_workers),
            "memory": lambda: memory(folder, tokenizer, given.num_workers[-1]),
            "input": lambda: input_share(folder, tokenizer, given.recipe, given.num_steps),
        }
        results = {"megabytes": round(num_bytes / MEGABYTE, 2)} | measure[given.what]()
        results["load_average"] = [round(one, 1) for one in os.getloadavg()]
    output = given.output or Path(f"benchmarks/results/prepare_{given.what}.json")
    write(output, "benchmarks.prepare", arguments, results)


def write_text(path: Path, num_bytes: int) -> int:
    """Writes documents, one a line, until there are so many bytes; returns how many there are."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(["".join(rng.choice(letters, size)) for size in rng.integers(2, 11, NUM_WORDS)])
    share = 1 / np.arange(1, NUM_WORDS + 1)
    cumulative = np.cumsum(share / share.sum())
    written = 0
    with path.open("w", encoding="ascii") as file:
        while written < num_bytes:
            drawn = words[np.searchsorted(cumulative, rng.random(20_000)).clip(max=NUM_WORDS - 1)]
            ends = np.cumsum(rng.integers(20, 300, 200))
            documents = [" ".join(one) + "\n" for one in np.split(drawn, ends[ends < len(drawn)])[:-1]]
            documents += documents[::10]
            written += file.write("".join(documents))
    return written


def train_tokenizer(folder: Path) -> Path:
    """Trains a vocabulary on the first documents; returns its folder."""
    from tfzoo.text import BytePairTokenizer

    with (folder / "text.txt").open(encoding="ascii") as file:
        documents = list(itertools.islice(file, 5000))
    BytePairTokenizer.train(documents, VOCABULARY_SIZE).save(folder / "tokenizer")
    return folder / "tokenizer"


def command(folder: Path, tokenizer: Path, output: Path, num_workers: int) -> list[str]:
    """Returns the command that prepares the text, in shards of the size that those of a large corpus have."""
    num_shards = -(-(folder / "text.txt").stat().st_size // SHARD_BYTES)
    arguments = ["prepare", "--recipe=gpt2_tiny", SET, DEDUPLICATE, f"--data=text:{folder / 'text.txt'}"]
    arguments += [f"--tokenizer={tokenizer}", f"--output_dir={output}", f"--num_workers={num_workers}"]
    arguments.append(f"--num_shards={num_shards}")
    return [sys.executable, "-m", "tfzoo", *arguments]


def speed(folder: Path, tokenizer: Path, every: Sequence[int]) -> dict[str, Any]:
    """Times the command with each number of workers, and plain Python in as many processes as it uses threads."""
    megabytes = (folder / "text.txt").stat().st_size / MEGABYTE
    results: dict[str, Any] = {}
    plain, results["plain_python"] = measured(megabytes, lambda: in_process(_plain, folder, tokenizer))
    for num_workers in every:
        output = folder / f"prepared_{num_workers}"
        run = functools.partial(subprocess.run, command(folder, tokenizer, output, num_workers), check=True)
        _, results[f"prepare_{num_workers}"] = measured(megabytes, run)
        if examples(output) != plain:
            raise SystemExit(f"tfzoo prepare with {num_workers} workers made other examples than plain Python.")
    return results | {"same_examples": True}


def measured(megabytes: float, run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Returns what a call that works in other processes returns, and how long it took."""
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return found, {
        "seconds": round(seconds, 1),
        "mb_per_second": round(megabytes / seconds, 3),
        "processor_seconds": round(processor, 1),
        "mb_per_processor_second": round(megabytes / processor, 3),
    }


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a function does in a process of its own."""
    pool = multiprocessing.get_context("spawn").Pool(1)
    with pool:
        found = pool.apply(function, arguments)
        pool.close()
        pool.join()
    return found


def _plain(folder: Path, tokenizer: Path) -> str:
    import tensorflow as tf
    import tokenizers

    encoder = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    end_id = encoder.token_to_id("<|endoftext|>")
    seen: set[bytes] = set()

    def documents() -> Iterator[str]:
        with (folder / "text.txt").open(encoding="utf-8") as file:
            for line in file:
                text = line.rstrip("\n")
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    yield text

    left = documents()
    path = folder / "plain.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        while chunk := list(itertools.islice(left, CHUNK)):
            for encoding in encoder.encode_batch_fast(chunk):
                example = tf.train.Example()
                example.features.feature["token_ids"].int64_list.value.extend([*encoding.ids, end_id])
                writer.write(example.SerializeToString())
    return _digest([path])


def examples(output: Path) -> str:
    """Returns a digest of the examples of a prepared corpus, whatever their order."""
    return in_process(_digest, sorted(output.glob("*.tfrecord-*")))


def _digest(paths: list[Path]) -> str:
    import tensorflow as tf

    records = tf.data.TFRecordDataset([str(path) for path in paths]).as_numpy_iterator()
    digests = sorted(hashlib.blake2b(record, digest_size=16).digest() for record in records)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def memory(folder: Path, tokenizer: Path, num_workers: int) -> dict[str, Any]:
    """Runs the command, and returns the most memory that its processes had together."""
    output = folder / "prepared"
    peak: list[int] = []
    megabytes = (folder / "text.txt").stat().st_size / MEGABYTE

    def run() -> None:
        with subprocess.Popen(command(folder, tokenizer, output, num_workers)) as process:
            root = psutil.Process(process.pid)
            while process.poll() is None:
                peak[:] = max(peak, [pss(one) for one in (root, *children(root))], key=sum)
                time.sleep(0.5)
        if process.returncode:
            raise SystemExit(f"tfzoo prepare ended with {process.returncode}.")

    _, times = measured(megabytes, run)
    return {
        "num_workers": num_workers,
        "peak_gigabytes": round(sum(peak) / 1e9, 3),
        "processes_at_the_peak": len(peak),
        "prepared_megabytes": round(sum(one.stat().st_size for one in output.glob("*.tfrecord-*")) / MEGABYTE, 1),
    } | times


def children(process: psutil.Process) -> list[psutil.Process]:
    """Returns the processes below one; none when it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def pss(process: psutil.Process) -> int:
    """Returns the proportional set size in bytes; 0 when the process has ended."""
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def input_share(folder: Path, tokenizer: Path, name: str, num_steps: int) -> dict[str, Any]:
    """Times steps on the prepared corpus and on one batch, and the corpus alone."""
    import tensorflow as tf

    from tfzoo import zoo
    from tfzoo.recipes import override
    from tfzoo.run_data import training_batches
    from tfzoo.run_folder import build_model, prepare
    from tfzoo.training.losses import cross_entropy

    output = folder / "prepared"
    subprocess.run(command(folder, tokenizer, output, 1), check=True)
    corpus = f"prepared:{output}"
    settings = [f"model.vocabulary_size={VOCABULARY_SIZE}", f"data.train={corpus}", f"data.validation={corpus}"]
    recipe = override(zoo.recipe(name), [*settings, "data.cleaning=exact_duplicates"])
    recipe, pair = prepare(recipe, folder / "run")
    model = build_model(recipe)
    model.compile(optimizer="adam", loss=cross_entropy())
    batches = training_batches(recipe, pair)
    one = next(iter(batches))
    held = tf.data.Dataset.from_tensors(one).repeat()

    def seconds(dataset: tf.data.Dataset) -> float:
        iterator = iter(dataset)
        for _ in range(5):
            model.train_on_batch(*next(iterator))
        start = time.perf_counter()
        for _ in range(num_steps):
            model.train_on_batch(*next(iterator))
        return (time.perf_counter() - start) / num_steps

    on_held, on_prepared = min(seconds(held) for _ in range(3)), min(seconds(batches) for _ in range(3))
    start, num_tokens = time.perf_counter(), 0.0
    for *_, weights in batches.take(20 * num_steps):
        num_tokens += float(tf.reduce_sum(weights))
    return {
        "recipe": recipe.name,
        "num_steps": num_steps,
        "step_ms_on_one_batch": round(on_held * 1e3, 2),
        "step_ms_on_the_corpus": round(on_prepared * 1e3, 2),
        "input_bound_share": round(max(0.0, 1 - on_held / on_prepared), 4),
        "tokens_per_second_without_a_model": round(num_tokens / (time.perf_counter() - start)),
    }


if __name__ == "__main__":
    main()
