"""Moves a cluster's data to a newer major version of PostgreSQL; what there was stays beside it.

A step that a crash interrupts is done again, or gone on with, at the next start:

    data (15)                 the old server is dumped into `moving-18`, a cluster of its own
    data (15) · moving-18     unfinished: thrown away, begun again
    data (15) · moved-18      whole and compared: only names change from here on
    data-15   · moved-18
    data (18) · data-15
"""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bmad_mcp.embedded.binaries import Binaries
from bmad_mcp.embedded.data_home import DataHome, make_home
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints
from bmad_mcp.embedded.file_lock import POLL_SECONDS
from bmad_mcp.embedded.postmaster import Postmaster, sync
from bmad_mcp.embedded.program_copy import place_binaries
from bmad_mcp.embedded.roles import Answer, ask, prepare
from bmad_mcp.embedded.session import ServerRefused, Session
from bmad_mcp.embedded.socket_folder import make_socket_folder, remove_socket_folder
from bmad_mcp.errors import Unavailable

logger = logging.getLogger("bmad_mcp.embedded")
ANSWER_SECONDS = 60.0
# For reading one table: longer than the copy of it takes.
READ_SECONDS = 3600.0
# What is generated is computed anew, by the rules of the newer version.
TABLES = """
SELECT format('%I.%I', n.nspname, c.relname), (
    SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""
# The sum needs no order, and memory for one row at a time.
READ = """
SELECT count(*), sum(('x' || substr(encode(sha256(convert_to(ROW({columns})::text, 'UTF8')), 'hex'), 1, 16))::bit(64)::bigint)
FROM ONLY {table}
"""
# Texts of values that differ with a server's settings would be no difference.
AS_TEXT = """
SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';
SET extra_float_digits = 1; SET search_path = pg_catalog
"""
Contents = dict[str, tuple[str | None, ...]]


def can_move(new: Binaries) -> bool:
    """Whether the newer version comes with the programs that take data over."""
    return all((new.bin_dir / program).is_file() for program in ("pg_dump", "pg_restore"))


def finish_move(home: DataHome) -> None:
    """Go on with a move whose copy is whole; call it with the control lock held and no server running."""
    for moved in sorted(home.folder.glob("moved-*")):
        if home.data.exists():
            major = Postmaster(home).data_major
            if str(major) == moved.name.removeprefix("moved-"):
                shutil.rmtree(moved)
                continue
            home.data.rename(_kept(home, f"data-{major}"))
            sync(home.folder)
        (moved / "data").rename(home.data)
        sync(home.folder)
        shutil.rmtree(moved)


def move_data(home: DataHome, old: Binaries, new: Binaries, control_lock: int) -> None:
    """Take the data over into the new version; raises Unavailable, with everything as it was, when that fails."""
    began = time.monotonic()
    logger.warning("Moving the database from PostgreSQL %s to %s …", old.version, new.version)
    unfinished = replace(home, folder=home.folder / f"moving-{new.major}", asked_for=home.folder)
    if unfinished.folder.exists():
        Postmaster(unfinished).stop(seconds=ANSWER_SECONDS)
        shutil.rmtree(unfinished.folder)
    make_home(unfinished)
    dump = unfinished.folder / "all.dump"
    try:
        with _running(home, place_binaries(old, home)) as source:
            logger.warning("Reading every table …")
            had = _contents(source)
            logger.warning("Copying %d tables …", len(had))
            # The newer pg_dump knows the older server, and not the other way round.
            _run(new, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={source.libpq_url(ADMIN_ROLE)}")
        target_programs = place_binaries(new, unfinished)
        Postmaster(unfinished).initialise(target_programs, make_socket_folder(unfinished), control_lock)
        with _running(unfinished, target_programs) as target:
            prepare(target)
            options = ("--exit-on-error", "--single-transaction", f"--dbname={target.libpq_url(ADMIN_ROLE)}")
            _run(new, "pg_restore", *options, str(dump))
            logger.warning("Comparing the copy, every row of it …")
            if (found := _contents(target)) != had:
                raise Unavailable(
                    f"{len(had)} tables should have come over, and they differ: {_differences(had, found)}."
                )
    except (OSError, ServerRefused, Unavailable) as error:
        shutil.rmtree(unfinished.folder, ignore_errors=True)
        raise Unavailable(
            f"The database could not be moved to PostgreSQL {new.version}; it stays as it is, with {old.version}, and the"
            f" next start tries again. Why: {error} Save it with `bmad-mcp db backup`."
        ) from error
    dump.unlink()
    unfinished.folder.rename(home.folder / f"moved-{new.major}")
    sync(home.folder)
    finish_move(home)
    seconds = time.monotonic() - began
    logger.warning("Moved in %.1f s. The old data is in %s.", seconds, home.folder / f"data-{old.major}")


def _kept(home: DataHome, name: str) -> Path:
    """A free name; data of an earlier move is never overwritten."""
    names = (home.folder / (name if number == 0 else f"{name}-{number}") for number in range(1000))
    return next(folder for folder in names if not folder.exists())


@contextmanager
def _running(home: DataHome, binaries: Binaries) -> Iterator[Endpoints]:
    server = Postmaster(home)
    endpoints = Endpoints(make_socket_folder(home))
    server.launch(binaries, endpoints.socket_dir)
    try:
        deadline = time.monotonic() + ANSWER_SECONDS
        while ask(endpoints) not in (Answer.READY, Answer.UNPREPARED):
            if not server.is_alive() or time.monotonic() > deadline:
                raise Unavailable(f"PostgreSQL {binaries.version} does not answer. {server.last_words()}".rstrip())
            time.sleep(POLL_SECONDS)
        yield endpoints
    finally:
        if not server.stop(seconds=ANSWER_SECONDS):
            raise Unavailable(f"PostgreSQL {binaries.version} in {home.data} does not stop.")
        remove_socket_folder(home)


def _contents(endpoints: Endpoints) -> Contents:
    """Of each table how many rows there are, and a sum of the checksums of all of them."""
    with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database, seconds=READ_SECONDS) as session:
        tables = session.run(TABLES)
        session.run(AS_TEXT)
        return {
            str(table): session.run(READ.format(table=table, columns=columns or ""))[0] for table, columns in tables
        }


def _differences(old: Contents, new: Contents) -> str:
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(_difference(name, old.get(name), new.get(name)) for name in names[:5])


def _difference(name: str, old: tuple[str | None, ...] | None, new: tuple[str | None, ...] | None) -> str:
    before, after = old[0] if old else None, new[0] if new else None
    return f"{name} has {after} rows for {before}" if before != after else f"{name} has other contents"


def _run(binaries: Binaries, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(binaries.bin_dir / program), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"{program} says: {' '.join(done.stderr.split())[:600]}")
