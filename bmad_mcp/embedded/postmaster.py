"""One PostgreSQL server process: creating its data, launching it, knowing whether it lives, and ending it."""

import errno
import logging
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from bmad_mcp.embedded.binaries import Binaries
from bmad_mcp.embedded.data_home import DataHome
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, PORT
from bmad_mcp.embedded.file_lock import POLL_SECONDS, open_lock, try_exclusive
from bmad_mcp.embedded.server_files import write_server_files
from bmad_mcp.errors import Unavailable

logger = logging.getLogger("bmad_mcp.embedded")
INITDB_SECONDS = 180.0
LAUNCH_SECONDS = 30.0
LOG_LIMIT_BYTES = 1_000_000
LOG_TAIL_LINES = 12


class Postmaster:
    """The server of one home. `is_alive`, `initialise`, `launch` and `stop` want the control lock held."""

    def __init__(self, home: DataHome) -> None:
        self.home = home
        self._log_start = 0

    def is_alive(self) -> bool:
        """Whether any process of the server lives, be it only an orphan that outlived its postmaster.

        The postmaster inherits the locked descriptor and so do all its children: unlike a pid in a file, the lock
        knows no reused numbers, no zombies and no other container's numbering.
        """
        descriptor = open_lock(self.home.server_lock)
        try:
            return not try_exclusive(descriptor)
        finally:
            os.close(descriptor)

    @property
    def pid(self) -> int | None:
        """What the server's own file says; it may be stale unless `is_alive`."""
        first = self._pid_file_lines()[:1]
        return int(first[0]) if first and first[0].strip().isdigit() else None

    @property
    def socket_folder(self) -> Path | None:
        """Where the server that wrote the pid file put its socket."""
        lines = self._pid_file_lines()
        return Path(lines[4]) if len(lines) > 4 and lines[4].startswith("/") else None

    @property
    def data_major(self) -> int | None:
        """The major version that made the data; None if there is no data yet."""
        try:
            return int((self.home.data / "PG_VERSION").read_text().split(".")[0])
        except FileNotFoundError:
            return None
        except ValueError:
            raise Unavailable(
                f"{self.home.data}/PG_VERSION holds no version number, so this is no whole PostgreSQL data folder. "
                "Restore it from a backup, or move the folder away to begin an empty one."
            ) from None

    def initialise(self, binaries: Binaries, socket_folder: Path, control_lock: int) -> None:
        """Create the data folder; a half-made one never gets its final name."""
        unfinished = self.home.folder / "data.tmp"
        if unfinished.exists():
            logger.warning("Removing %s, left by an interrupted start.", unfinished)
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self.home.account.give(unfinished)
        for locale in _locales(binaries.major):
            done = self.home.account.run(
                [f"{binaries.bin_dir}/initdb", "-D", unfinished.name, *_initdb_options(), *locale],
                cwd=self.home.folder,
                seconds=INITDB_SECONDS,
                # An initdb that outlives this process keeps the next one from touching its folder.
                pass_fds=[control_lock],
            )
            if done.returncode == 0:
                break
        else:
            raise Unavailable(f"PostgreSQL could not create its data in {self.home.folder}: {done.stdout.strip()}")
        write_server_files(unfinished, self.home, binaries, socket_folder)
        unfinished.rename(self.home.data)
        sync(self.home.folder)

    def launch(self, binaries: Binaries, socket_folder: Path) -> None:
        """Begin a start, detached from this process; whether it succeeds shows by `is_alive` and by its answers."""
        descriptor = open_lock(self.home.server_lock)
        try:
            if not try_exclusive(descriptor):
                return
            self._remove_stale_locks(socket_folder)
            write_server_files(self.home.data, self.home, binaries, socket_folder)
            self._begin_log()
            # Relative names, because pg_ctl pastes them into a shell command with only double quotes around them.
            places = ["-D", self.home.data.name, "-l", self.home.log.name, "-p", f"{binaries.bin_dir}/postgres"]
            done = self.home.account.run(
                [f"{binaries.bin_dir}/pg_ctl", "start", "--no-wait", "--silent", *places],
                cwd=self.home.folder,
                seconds=LAUNCH_SECONDS,
                pass_fds=[descriptor],
            )
        finally:
            os.close(descriptor)
        if done.returncode != 0:
            raise Unavailable(f"PostgreSQL could not be launched: {done.stdout.strip()} {self.last_words()}".rstrip())

    def stop(self, *, seconds: float) -> bool:
        """Shut down fast, as `pg_ctl stop -m fast` does; tells whether every process is gone within that time."""
        if not self.is_alive():
            return True
        if (pid := self.pid) and self._works_in_our_data(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def has_no_room(self) -> bool:
        """Whether the latest launch ended, by its log, because the disk is full."""
        return os.strerror(errno.ENOSPC) in self.last_words()

    def last_words(self) -> str:
        """The last lines of the server's log since the latest launch, as a sentence for an error."""
        try:
            with self.home.log.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read(LOG_LIMIT_BYTES).decode(errors="replace").splitlines()
        except OSError:
            lines = []
        return f"Its log, {self.home.log}, ends: " + "\n".join(lines[-LOG_TAIL_LINES:]) if lines else ""

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.home.data / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
        except OSError:
            return []

    def _remove_stale_locks(self, socket_folder: Path) -> None:
        # The server lock is ours, so no process is behind these; PostgreSQL itself would believe any live or zombie
        # pid in them. Should somebody run the server by hand, its shared memory, keyed by the folder, still stops us.
        for stale in (self.home.data / "postmaster.pid", socket_folder / f".s.PGSQL.{PORT}.lock"):
            stale.unlink(missing_ok=True)

    def _works_in_our_data(self, pid: int) -> bool:
        # The number may be another process: after the postmaster's death, or if it runs in another container.
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", self.home.data)
        except PermissionError:
            return True
        except FileNotFoundError:
            return not Path("/proc/self/cwd").exists()

    def _begin_log(self) -> None:
        log = self.home.log
        if log.exists() and log.lstat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.old"))
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            self._log_start = log.lstat().st_size
            return
        self._log_start = 0
        try:
            if not self.home.account.is_current:
                os.fchown(descriptor, self.home.account.uid, self.home.account.gid)
        finally:
            os.close(descriptor)


def _initdb_options() -> list[str]:
    return [
        f"--username={ADMIN_ROLE}",
        "--auth-local=peer",
        "--auth-host=reject",
        "--data-checksums",
        "--no-instructions",
        "--encoding=UTF8",
    ]


def _locales(major: int) -> list[list[str]]:
    if major >= 17:
        return [["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]]
    # Without the builtin provider letters beyond ASCII need a locale of the system, and which it has varies.
    return [["--locale=C", f"--lc-ctype={name}"] for name in ("C.UTF-8", "en_US.UTF-8", "C")]


def sync(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
