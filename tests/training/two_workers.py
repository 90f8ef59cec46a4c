"""Two processes on this machine that train one model, as two machines do."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

NUM_WORKERS = 2


def tf_configs() -> list[str]:
    """TF_CONFIG of each worker, on ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(NUM_WORKERS)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(NUM_WORKERS)
    ]


@contextlib.contextmanager
def started(module: str, arguments: Sequence[str | Path], configs: Sequence[str | None]) -> Iterator[list]:
    """Runs one process for each TF_CONFIG, None being a run without; those that are left are killed at the end.

    Args:
        module: what Python runs.
        arguments: of the command line.
        configs: a TF_CONFIG for each.

    Returns: the processes, with standard output and standard error in one pipe.
    """
    processes = []
    try:
        for config in configs:
            environ = os.environ | {"PYTHONPATH": os.getcwd(), "TF_CPP_MIN_LOG_LEVEL": "2"}
            if config is not None:
                environ["TF_CONFIG"] = config
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *map(str, arguments)],
                    env=environ,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def finished(module: str, *arguments: str | Path, configs: Sequence[str | None]) -> list[tuple[int, str]]:
    """Exit code and output of each process; see `started`."""
    with started(module, arguments, configs) as processes:
        outputs = [process.communicate(timeout=1800)[0] for process in processes]
        return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]
