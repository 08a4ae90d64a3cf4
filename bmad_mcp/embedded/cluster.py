"""A private PostgreSQL cluster for many processes: the first one in starts it, the last one out stops it."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bmad_mcp.embedded.binaries import Binaries, find_binaries
from bmad_mcp.embedded.data_home import DataHome, find_home, make_home
from bmad_mcp.embedded.endpoints import Endpoints
from bmad_mcp.embedded.file_lock import POLL_SECONDS, alone, exclusive, hold_shared
from bmad_mcp.embedded.newer_major import can_move, finish_move, move_data
from bmad_mcp.embedded.postmaster import Postmaster
from bmad_mcp.embedded.program_copy import place_binaries, remove_other_copies
from bmad_mcp.embedded.roles import Answer, ask, prepare
from bmad_mcp.embedded.socket_folder import make_socket_folder, remove_socket_folder
from bmad_mcp.errors import NoRoom, Unavailable
from bmad_mcp.progress import Progress, untold

logger = logging.getLogger("bmad_mcp.embedded")
# A first start on a slow machine takes seconds; recovery after a crash takes as long as its WAL is.
CONTROL_SECONDS = 240.0
START_SECONDS = 180.0
# Processes that outlive a killed postmaster need a moment, or the end of their current query, to notice.
SILENCE_SECONDS = 10.0
STOP_SECONDS = 30.0
# Whoever holds the control lock for longer is starting the server, so it is not unused.
LEAVE_SECONDS = 10.0


class Cluster:
    """The embedded database of one folder, as one process uses it.

    `start()` and `stop()` block: call them in a thread. Every process (and every Cluster object) that started
    counts as one user by a file lock, so a user that is killed stops counting. As a context manager it gives Endpoints.
    All failures are Unavailable, with a text that says what to do. `tell` hears when the server is started here.
    """

    def __init__(self, root: Path, *, find: Callable[..., Binaries] = find_binaries, tell: Progress = untold) -> None:
        self.root = root.expanduser().absolute()
        self._find = find
        self._tell = tell
        self._mutex = threading.RLock()
        self._users: int | None = None
        self._endpoints: Endpoints | None = None
        self._is_starting = False
        self._stop_was_asked = False

    @property
    def data_folder(self) -> Path:
        """PostgreSQL's data directory: `<root>/data`, or elsewhere when root runs this (see find_home)."""
        return find_home(self.root).data

    def start(self) -> Endpoints:
        """Bring the database up, or join the one that runs, and return where it listens.

        Takes about 1 s the first time, 0.1 s when it was stopped, milliseconds when it runs. Harmless to repeat.
        """
        with self._mutex:
            self._is_starting, self._stop_was_asked = True, False
            try:
                self._endpoints = self._join()
            except OSError as error:
                raise Unavailable(
                    f"The embedded database in {self.root} cannot be used: {error}. "
                    "Mend that, choose another BMAD_DATA_DIR, or set BMAD_DATABASE_URL."
                ) from error
            finally:
                self._is_starting = False
            if self._stop_was_asked:
                self.stop()
                raise Unavailable("The embedded database was stopped while it started.")
            return self._endpoints

    def ensure_running(self) -> Endpoints:
        """After a failed connection: return at once if the database answers, else start it again."""
        if self._users is None or self._endpoints is None:
            raise Unavailable("The embedded database is not in use by this process: it was stopped, or never started.")
        if ask(self._endpoints) is Answer.READY:
            return self._endpoints
        logger.warning("The embedded database does not answer; starting it again.")
        return self.start()

    def stop(self) -> None:
        """Leave the database; the last user to leave shuts it down. Harmless to repeat; failures go to the log."""
        with self._mutex:
            if self._is_starting:
                # Only a signal handler that interrupts start() in this very thread gets here.
                self._stop_was_asked = True
                return
            if self._users is None:
                return
            atexit.unregister(self.stop)
            leaving = ExitStack()
            leaving.callback(os.close, self._users)
            self._users = None
            with leaving:
                try:
                    home = find_home(self.root)
                    with exclusive(home.control_lock, seconds=LEAVE_SECONDS):
                        leaving.close()
                        _stop_if_unused(home)
                except (OSError, Unavailable) as error:
                    logger.warning("The embedded database was left running: %s", error)

    def __enter__(self) -> Endpoints:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _join(self) -> Endpoints:
        home = find_home(self.root)
        make_home(home)
        with exclusive(home.control_lock, seconds=CONTROL_SECONDS) as control_lock:
            if self._users is not None:
                return self._bring_up(home, control_lock)
            users = hold_shared(home.users_lock)
            try:
                endpoints = self._bring_up(home, control_lock)
            except BaseException as error:
                os.close(users)
                # A server that is merely slow to recover would have to begin anew.
                if not isinstance(error, Unavailable):
                    _stop_if_unused(home)
                raise
            self._users = users
        atexit.register(self.stop)
        return endpoints

    def _bring_up(self, home: DataHome, control_lock: int) -> Endpoints:
        server = Postmaster(home)
        began = last_sign = time.monotonic()
        deadline = began + START_SECONDS
        was_launched = was_prepared = False
        while True:
            # A running server knows best where it listens: its starter may have had another temp folder.
            folder = server.socket_folder if server.is_alive() else None
            endpoints = Endpoints(folder or make_socket_folder(home))
            answer = ask(endpoints)
            now = time.monotonic()
            if answer is Answer.READY:
                verb = "started" if was_launched else "was running"
                logger.info("Embedded PostgreSQL %s after %.2f s, data in %s.", verb, now - began, home.data)
                return endpoints
            if answer is Answer.UNPREPARED and not was_prepared:
                prepare(endpoints)
                was_prepared = True
                continue
            if answer is Answer.SILENT and not server.is_alive():
                if was_launched and server.has_no_room():
                    raise NoRoom(
                        f"The disk with the database's folder, {home.data}, is full. Whoever runs this server has"
                        " to free space on it; the database then starts by itself, with all that was acknowledged."
                    )
                if was_launched:
                    raise Unavailable(f"PostgreSQL ended while it started. {server.last_words()}".rstrip())
                self._tell("starting PostgreSQL …")
                self._launch(server, control_lock)
                was_launched = True
                # Before it, data may have moved to a newer version, which takes as long as it is large.
                deadline = time.monotonic() + START_SECONDS
            if answer is not Answer.SILENT or was_launched:
                last_sign = now
            if now > deadline or now - last_sign > SILENCE_SECONDS:
                raise Unavailable(_why_no_answer(server, endpoints, answer))
            time.sleep(POLL_SECONDS)

    def _launch(self, server: Postmaster, control_lock: int) -> None:
        home = server.home
        finish_move(home)
        major = server.data_major
        if home.is_elsewhere:
            logger.warning(
                "PostgreSQL cannot run as %s in %s, so its data is in %s.",
                home.account.name or home.account.uid,
                home.asked_for,
                home.folder,
            )
        try:
            found = self._find(major=major)
            if major is not None:
                found = self._moved(home, found, control_lock)
            binaries = place_binaries(found, home)
        except Unavailable as error:
            if major is None:
                raise
            raise Unavailable(
                f"{error} Install PostgreSQL {major} to go on with {home.data}: where a newer one is there too, the next "
                "start moves the data over. Or save it with that version's pg_dump and restore it in a new BMAD_DATA_DIR, "
                "or move the folder away to begin with an empty database."
            ) from error
        socket_folder = make_socket_folder(home)
        if major is None:
            server.initialise(binaries, socket_folder, control_lock)
        remove_other_copies(binaries, home)
        server.launch(binaries, socket_folder)

    def _moved(self, home: DataHome, old: Binaries, control_lock: int) -> Binaries:
        """The programs for the data: newer ones, once they have taken it over."""
        new = self._find(major=None)
        if new.major <= old.major or not can_move(new):
            return old
        try:
            move_data(home, old, new, control_lock)
        except Unavailable as error:
            logger.warning("%s", error)
            return old
        return new


def _stop_if_unused(home: DataHome) -> None:
    with alone(home.users_lock) as is_alone:
        if not is_alone:
            logger.info("Other processes use the embedded PostgreSQL; it stays up.")
        elif Postmaster(home).stop(seconds=STOP_SECONDS):
            remove_socket_folder(home)
            logger.info("Embedded PostgreSQL stopped.")
        else:
            logger.warning("Embedded PostgreSQL is still shutting down after %.0f s; see %s.", STOP_SECONDS, home.log)


def _why_no_answer(server: Postmaster, endpoints: Endpoints, answer: Answer) -> str:
    if answer is Answer.UNPREPARED:
        return f"The embedded PostgreSQL at {endpoints.socket_dir} has no usable role {endpoints.app_role}."
    if answer is Answer.STARTING:
        words = server.last_words()
        return f"The embedded PostgreSQL is still recovering after {START_SECONDS:.0f} s. Try again. {words}"
    mend = f" Else stop it first: kill -INT {server.pid}." if server.pid else ""
    return (
        f"The embedded PostgreSQL in {server.home.data} runs, but nothing answers at {endpoints.socket_file}. "
        f"If it was just killed, its last queries are ending: try again.{mend}"
    )
