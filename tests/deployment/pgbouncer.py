"""Debian's PgBouncer in transaction mode, in front of a test's PostgreSQL."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from own_postgresql import OwnPostgresql, free_port_number

PROGRAM = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="needs pgbouncer (apt-get install pgbouncer)")

# Two sessions for all: every client meets sessions that others have used, which is what has to be right.
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
{more}
"""


@contextmanager
def pooler(server: OwnPostgresql, *roles: str, more: str = "") -> Iterator[int]:
    """A pooler that lets these roles in; gives its port."""
    port = free_port_number()
    users = server.folder / f"users-{port}.txt"
    file = server.folder / f"pgbouncer-{port}.ini"
    users.write_text("".join(f'"{role}" ""\n' for role in roles))
    file.write_text(CONFIGURATION.format(server=server, port=port, users=users, more=more))
    process = subprocess.Popen(
        [PROGRAM, "-q", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **server.as_its_user()
    )
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def wait_for(port: int, seconds: float = 10) -> None:
    """Returns when something of this machine listens there."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, f"nothing listens at {port}"
        time.sleep(0.02)
