"""Ending a server well on SIGTERM and SIGINT: everything is closed, and what hangs cannot hold the process."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_signal(stop: Callable[[], object], *, force_after: float) -> Iterator[None]:
    """Call `stop` on the first signal; the process ends with code 0 after that many seconds, whatever hangs.

    A cut-off end loses nothing: the kernel drops the locks, and PostgreSQL rolls back what was not committed.
    """
    loop = asyncio.get_running_loop()
    asked = False

    def hear() -> None:
        nonlocal asked
        if asked:
            return
        asked = True
        # A thread may be waiting for another process's lock, and threads cannot be cancelled.
        forced = threading.Timer(force_after, os._exit, [0])
        forced.daemon = True
        forced.start()
        stop()

    for number in SIGNALS:
        loop.add_signal_handler(number, hear)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            # All is closed; a signal between here and the end of the process needs nothing more.
            signal.signal(number, lambda *_: os._exit(0))
