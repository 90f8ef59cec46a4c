"""Signals that ask a training run to end: they wait for the running step, so that it can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from absl import logging


@contextlib.contextmanager
def postponed() -> Iterator[list[signal.Signals]]:
    """Within, SIGTERM and the first SIGINT are only noted; a second SIGINT acts as it did before.

    Schedulers send SIGTERM, often twice, some time before they kill; SIGINT is Ctrl-C. In a thread other than the main
    one nothing changes, since Python gives signals to the main thread alone.

    Returns: a list that is empty until a signal comes.
    """
    noted: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(signal.Signals(number))
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
        logging.info("%s: saving the run after this step, or after this validation.", noted[-1].name)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield noted
    finally:
        for number, handler in before.items():
            # None: a handler that was not installed from Python, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
