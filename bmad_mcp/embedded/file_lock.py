"""Locks on files that the kernel drops when their holder dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmad_mcp.errors import Unavailable

POLL_SECONDS = 0.01


def open_lock(path: Path) -> int:
    """Open a lock file, making it if needed; it belongs to whoever owns the folder."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.geteuid() == 0:
        folder = os.stat(path.parent)
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def try_exclusive(descriptor: int) -> bool:
    """Take the lock for oneself if nobody else has it in any form."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold_shared(path: Path) -> int:
    """Become one of the lock's holders until the returned descriptor, and each forked copy of it, is closed."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def exclusive(path: Path, *, seconds: float) -> Iterator[int]:
    """Hold the lock alone; raises Unavailable when others keep it for that many seconds."""
    descriptor = open_lock(path)
    try:
        deadline = time.monotonic() + seconds
        while not try_exclusive(descriptor):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Another process has been starting or stopping the embedded PostgreSQL for over {seconds:.0f} s "
                    f"and still holds {path}. Try again, or end that process (lsof shows which)."
                )
            time.sleep(POLL_SECONDS)
        try:
            yield descriptor
        finally:
            # Closing is not enough: a child forked meanwhile has a copy that would keep the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Tell whether nobody holds the lock; while the block runs, nobody can get it either."""
    descriptor = open_lock(path)
    try:
        is_alone = try_exclusive(descriptor)
        try:
            yield is_alone
        finally:
            if is_alone:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
