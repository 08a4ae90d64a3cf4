"""A PostgreSQL that one test owns, as somebody else's server is: over TCP, restarted and replicated at will."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bmad_mcp.embedded.binaries import find_binaries
from bmad_mcp.embedded.data_home import DataHome, find_home, make_home
from bmad_mcp.embedded.program_copy import place_binaries

ADMIN = "postgres"
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
shared_buffers = 32MB
max_connections = 60
wal_keep_size = 64MB
timezone = UTC
log_min_messages = log
"""


def free_port_number() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class OwnPostgresql:
    """One server and its data folder; whoever is on this machine may come in, as its test's parts do."""

    def __init__(self, home: DataHome, name: str) -> None:
        self._home = home
        self.bin_dir = place_binaries(find_binaries(), home).bin_dir
        self.data = home.folder / name
        self.log = home.folder / f"{name}.log"
        self.port = free_port_number()

    def run(self, program: str, *arguments: str, seconds: float = 60) -> str:
        """Run one of PostgreSQL's programs as its user; fails with what it said."""
        done = self._home.account.run([f"{self.bin_dir}/{program}", *arguments], cwd=self._home.folder, seconds=seconds)
        assert done.returncode == 0, f"{program}: {done.stdout}"
        return done.stdout

    def initialise(self) -> None:
        """Make an empty data folder."""
        places = ["-D", str(self.data), f"--username={ADMIN}", "--auth=trust"]
        self.run("initdb", *places, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self._configure()

    def _configure(self) -> None:
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(port=self.port))

    def start(self) -> None:
        """Returns when it takes connections."""
        self.run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.log))

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends every session, `immediate` is what a crash leaves."""
        self.run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))

    def restart(self, mode: str = "fast") -> None:
        """Down and up again."""
        self.stop(mode)
        self.start()

    def copy_of(self, primary: "OwnPostgresql") -> None:
        """Become a streaming replica of a running server; it starts with `start`."""
        self.run("pg_basebackup", "-D", str(self.data), "-d", primary.url(), "-R", "-X", "stream", "-c", "fast", "-N")
        self._configure()

    def url(self, role: str = ADMIN, database: str = "postgres", port: int | None = None) -> str:
        """Its address, or that of a pooler in front of it by another port."""
        return f"postgresql://{role}@127.0.0.1:{port or self.port}/{database}"

    def as_its_user(self) -> dict[str, Any]:
        """What makes subprocess run a program as the user that this runs as."""
        account = self._home.account
        return {} if account.is_current else {"user": account.uid, "group": account.gid, "extra_groups": account.groups}

    @property
    def folder(self) -> Path:
        """Where its data folder is."""
        return self._home.folder


@contextmanager
def own_home() -> Iterator[DataHome]:
    """A folder in which servers of a test's own keep their data."""
    # Not below pytest's own folder: run as root, PostgreSQL's own user must be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="bmad-own-"))
    folder.chmod(0o711)
    try:
        home = find_home(folder / "servers")
        make_home(home)
        home.account.give(home.folder)
        yield home
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_postgresql() -> Iterator[OwnPostgresql]:
    """A running server with nothing in it."""
    with own_home() as home:
        server = OwnPostgresql(home, "primary")
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop("immediate")
