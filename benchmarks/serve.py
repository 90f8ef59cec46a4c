"""Does an artifact answer 10,000 requests from 8 threads: none failing, each as recorded, in memory that stays flat?

    tfzoo quickstart
    python -m benchmarks.serve

Once through the C program of `tests/consumers`, which loads the SavedModel as TF Serving does, and once through ONNX
Runtime. Each runtime has a process of its own, so that the memory is its own. The result goes to
benchmarks/results/serve.json; the exit status is 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.consumers import c_loader

# In nats; written down here, since what would import it imports TensorFlow into the process of ONNX Runtime.
TOLERANCE = 1e-3
MEMORY_SAMPLES = 50
# The first tenth of the requests fills allocators and thread caches. From there on a leak of 1 KiB a request would be
# 9 MiB; what is allowed is more than an allocator's arenas were seen to wander, and less than that.
WARM_SHARE, ALLOWED_GROWTH = 0.1, 8 * 2**20  # bytes


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs both, judges them and writes the result."""
    options = _parser().parse_args(arguments)
    per_thread = options.requests // options.threads
    if options.onnx_only:
        print(json.dumps(ask_onnx(options.artifact, options.threads, per_thread)))
        return

    from benchmarks import recording

    with tempfile.TemporaryDirectory() as directory:
        program = c_loader.build(Path(directory))
        finished = c_loader.run(
            program, options.artifact, Path(directory), threads=options.threads, requests=per_thread
        )
    if finished.returncode:
        sys.exit(f"SavedModel in C: {finished.stderr.strip()}")
    results = {"saved_model_in_c": json.loads(finished.stdout)}
    command = [sys.executable, "-m", "benchmarks.serve", "--onnx_only", f"--artifact={options.artifact}"]
    command += [f"--requests={options.requests}", f"--threads={options.threads}"]
    results["onnx_runtime"] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    for name, result in results.items():
        result["threads"] = options.threads
        result["failures"] = 0  # the first failure, or other answer, has ended the run
        result["requests_per_second"] = round(result["requests"] / result["seconds"], 1)
        result["growth_bytes"] = growth(result["resident_bytes"])
        print(
            f"{name}: {result['requests']} requests ({result['rows']} texts) from {options.threads} threads, "
            f"{result['requests_per_second']} a second, no failure, every answer as recorded; memory grew by "
            f"{result['growth_bytes'] / 2**20:.1f} MiB"
        )
    for name, result in results.items():
        if result["growth_bytes"] > ALLOWED_GROWTH:
            sys.exit(f"{name}: memory is not flat: it grew by more than {ALLOWED_GROWTH / 2**20:.0f} MiB.")
    recording.write(options.output, "benchmarks.serve", arguments, results)


def ask_onnx(artifact: Path, num_threads: int, num_requests: int) -> dict[str, Any]:
    """What the C program does, over ONNX Runtime: the same batches, compared with the same answers."""
    import numpy as np

    import tfzoo

    predictor = tfzoo.load(artifact, runtime="onnx")
    if "tensorflow" in sys.modules:
        sys.exit("TensorFlow was imported; the memory would not be ONNX Runtime's.")
    asked = json.loads((artifact / "serving/request.json").read_text(encoding="utf-8"))["inputs"]
    answered = json.loads((artifact / "serving/response.json").read_text(encoding="utf-8"))["outputs"]
    (texts,) = asked.values()
    num_texts = len(texts)
    progress = threading.Lock()
    memory: list[int] = []
    done = rows = 0

    def request(first: int, count: int) -> None:
        nonlocal done, rows
        chosen = [(first + row) % num_texts for row in range(count)]
        found = [best for (best,) in predictor.generate([texts[row] for row in chosen])]
        if [prediction.output for prediction in found] != [answered["outputs"][row] for row in chosen]:
            raise RuntimeError(f"another answer for the texts {chosen}: {[prediction.output for prediction in found]}")
        np.testing.assert_allclose(
            [prediction.score for prediction in found],
            [answered["scores"][row] for row in chosen],
            rtol=0,
            atol=TOLERANCE,
        )
        with progress:
            if done * MEMORY_SAMPLES >= len(memory) * num_threads * num_requests:
                memory.append(resident_bytes())
            done, rows = done + 1, rows + count

    def client(thread: int) -> None:
        for i in range(num_requests):
            request((7 * thread + i) % num_texts, 1 + (thread + i) % num_texts)

    request(0, num_texts)
    memory.clear()
    done = rows = 0
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(client, range(num_threads)))  # raises what a client raised
    seconds = time.perf_counter() - start
    return {
        "requests": done,
        "rows": rows,
        "seconds": round(seconds, 3),
        "resident_bytes": [*memory, resident_bytes()],
    }


def growth(series: list[int]) -> int:
    """Bytes by which the last tenth of a series lies above the tenth behind its warm-up, by their medians."""
    tenth = max(1, round(len(series) * WARM_SHARE))
    early, late = sorted(series[tenth : 2 * tenth]), sorted(series[-tenth:])
    return late[len(late) // 2] - early[len(early) // 2]


def resident_bytes() -> int:
    """Memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=(__doc__ or "").splitlines()[0])
    option: Any = parser.add_argument
    option("--artifact", type=Path, default=Path("runs/quickstart/artifact/pronounce"), help="what is asked")
    option("--requests", type=int, default=10_000, help="to each runtime, by all threads together")
    option("--threads", type=int, default=8, help="that ask at the same time")
    option("--output", type=Path, default=Path("benchmarks/results/serve.json"), help="the file of results")
    option("--onnx_only", action="store_true", help=argparse.SUPPRESS)  # the process of ONNX Runtime
    return parser


if __name__ == "__main__":
    main()
