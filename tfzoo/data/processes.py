"""Many calls of a function, in this process or spread over several that end with it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tfzoo.errors import TfzooError

Runner = Callable[[Callable[..., Any], list[tuple[Any, ...]]], Iterator[tuple[int, Any]]]


class Processes:
    """Calls a function with each of many arguments, in this process or in several; yields (index, result) as they come.

    Args:
        num_workers: processes; 1 = this one.
    """

    def __init__(self, num_workers: int) -> None:
        self._executor = None
        if num_workers > 1:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                num_workers, multiprocessing.get_context("spawn"), initializer=_begin_worker
            )

    def __enter__(self) -> Runner:
        return self._run

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def _run(self, function: Callable[..., Any], tasks: list[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        if self._executor is None:
            yield from ((index, function(*arguments)) for index, arguments in enumerate(tasks))
            return
        try:
            futures = {self._executor.submit(function, *arguments): index for index, arguments in enumerate(tasks)}
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except concurrent.futures.BrokenExecutor as error:
            raise TfzooError(
                "a worker process ended unasked: it was killed, as where memory is short, or a script calls this "
                "without `if __name__ == '__main__':`. The same call goes on; num_workers=1 does without processes."
            ) from error


def _begin_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # There are as many processes as there should be threads; TensorFlow reads this when it begins to compute.
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    threading.Thread(target=_follow, args=(multiprocessing.parent_process(),), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)
