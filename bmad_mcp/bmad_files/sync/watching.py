"""Notices that something changed: in the files of a folder, in its git branch, or in the database."""

import asyncio
import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from watchfiles import awatch

from bmad_mcp.artifacts.places import SKIPPED
from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.folder import BYTE_LIMIT
from bmad_mcp.bmad_files.git_state import git_state
from bmad_mcp.bmad_files.places import OUTPUT

logger = logging.getLogger("bmad_mcp.sync")

POLL_SECONDS = 1.0
# Where nothing can be watched, such as on a full table of watches, the folder is read this often.
LOOK_SECONDS = 2.0
# Longer than a transaction lasts: a change counts from its begin, and is seen from its end.
LOOK_BACK_SECONDS = 120.0
DEBOUNCE_MS = 200
USUAL = ("docs", OUTPUT, "_bmad", "bmad", ".bmad", "planning-artifacts", "implementation-artifacts", "{output_folder}")

Wake = Callable[[], None]


def watched_folders(root: Path, known: Mapping[str, str]) -> list[Path]:
    """The folders in the root that hold BMad files, or may: not the whole project, which may be huge."""
    told = {path.split("/", 1)[0] for path in known if "/" in path}
    names = told | set(USUAL)
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return []
    return [
        one
        for one in entries
        if one.is_dir()
        and not one.is_symlink()
        and one.name not in SKIPPED
        and (one.name in names or one.name.startswith((".bmad-", "initiative-")))
    ]


async def watch_files(root: Path, known: Callable[[], Mapping[str, str]], wake: Wake) -> None:
    """Call `wake` when a file is not as `known` has it (path → sha256); runs until it is cancelled."""
    told = ""
    while True:
        folders = watched_folders(root, known())
        marks = _marks(root, *folders)
        stop = asyncio.Event()

        def look(changes: Any, known: Callable[[], Mapping[str, str]] = known) -> None:
            paths = {_inside(root, path) for _, path in changes}
            if any(is_news(root, path, known()) for path in paths if path):
                wake()

        async def watch_root(stop: asyncio.Event = stop, folders: list[Path] = folders) -> None:
            # A folder that appears in the root may be one to watch.
            watched = {str(one) for one in (root, *folders)}
            async for changes in awatch(root, recursive=False, debounce=DEBOUNCE_MS, stop_event=stop):
                look(changes)
                # One that went and came back has the same name, and nobody watches it.
                if watched_folders(root, known()) != folders or any(path in watched for _, path in changes):
                    stop.set()

        async def watch_below(stop: asyncio.Event = stop, folders: list[Path] = folders) -> None:
            if not folders:
                await stop.wait()
                return
            async for changes in awatch(*folders, debounce=DEBOUNCE_MS, stop_event=stop, ignore_permission_denied=True):
                look(changes)
                if not all(one.is_dir() for one in folders):
                    stop.set()

        async def watch_for_others(
            stop: asyncio.Event = stop, folders: list[Path] = folders, marks: list[object] = marks
        ) -> None:
            # No event tells that the root was renamed, and another folder put in its place.
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await stop.wait()
                if _marks(root, *folders) != marks:
                    stop.set()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(watch_root())
                group.create_task(watch_below())
                group.create_task(watch_for_others())
        except* (OSError, RuntimeError) as errors:
            # A folder that is not there is told by the round that misses it.
            if told != (told := str(errors.exceptions[0])) and await asyncio.to_thread(root.is_dir):
                logger.warning("The folder cannot be watched (%s); it is looked at every few seconds instead.", told)
            await asyncio.sleep(LOOK_SECONDS)
        wake()
        await asyncio.sleep(0.05)


def _marks(*folders: Path) -> list[object]:
    """What tells a folder from another that has taken its place."""
    marks: list[object] = []
    for one in folders:
        try:
            told = one.stat()
        except OSError:
            marks.append(None)
        else:
            marks.append((told.st_dev, told.st_ino))
    return marks


def _inside(root: Path, path: str) -> str | None:
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return None


def is_news(root: Path, path: str, known: Mapping[str, str]) -> bool:
    """Whether the file is another than the known one; what no reader looks at is never news."""
    name = path.rsplit("/", 1)[-1]
    if name.startswith(".") and name != ".memlog.md":
        return False
    place = root / path
    try:
        # The opening of a pipe would wait for a writer, and the whole server with it.
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            kind = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(kind):
                return False
            if not stat.S_ISREG(kind):
                return path in known
            found = hashlib.sha256(file.read(BYTE_LIMIT + 1)).hexdigest()
    except OSError:
        return path in known
    return known.get(path) != found


async def watch_branch(root: Path, wake: Wake) -> None:
    """Call `wake` when git goes to another branch, begins or ends something."""
    before = await asyncio.to_thread(git_state, root)
    while True:
        await asyncio.sleep(POLL_SECONDS)
        now = await asyncio.to_thread(git_state, root)
        if now != before:
            before = now
            wake()


async def watch_database(connection: asyncpg.Connection, project: UUID, wake: Wake) -> None:
    """Call `wake` when tools of any process changed what files tell; ends with an error when the connection does."""
    seen: set[UUID] | None = None
    while True:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.project', $1, true)", str(project))
            rows = await connection.fetch(queries.RECENT_CHANGES, LOOK_BACK_SECONDS)
        now = {row["id"] for row in rows}
        if seen is not None and now - seen:
            wake()
        seen = now
        await asyncio.sleep(POLL_SECONDS)
