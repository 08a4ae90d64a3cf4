"""A blocking PostgreSQL session over a Unix socket, for the few statements a cluster needs before it serves."""

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

PROTOCOL_3 = 196608
Row = tuple[str | None, ...]


class ServerRefused(Exception):
    """PostgreSQL answered with an error: its SQLSTATE and its text."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(f"{text} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class Session:
    """One connection, simple queries only.

    Not asyncpg: that costs 0.12 s of imports and an event loop in whichever thread calls.
    Raises OSError when nobody listens or the server goes away, ServerRefused when it says no.
    """

    def __init__(self, socket_file: Path, user: str, database: str, *, seconds: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(socket_file))
            self._stream = self._socket.makefile("rb")
            names = ("user", user, "database", database, "application_name", "bmad-mcp start")
            body = struct.pack("!i", PROTOCOL_3) + b"".join(n.encode() + b"\0" for n in names) + b"\0"
            self._socket.sendall(struct.pack("!i", len(body) + 4) + body)
            self._read_until_ready()
        except BaseException:
            self._socket.close()
            raise

    def run(self, sql: str) -> list[Row]:
        """Run one statement (or several, as one transaction) and return the rows as text."""
        body = sql.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)
        return self._read_until_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._socket:
            try:
                self._socket.sendall(b"X" + struct.pack("!i", 4))
            except OSError:
                return

    def _read_until_ready(self) -> list[Row]:
        rows: list[Row] = []
        refused: ServerRefused | None = None
        while True:
            kind, body = self._read_message()
            if kind == b"Z":
                break
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"R" and struct.unpack("!i", body[:4]) != (0,):
                raise ServerRefused("28000", "the server asks for a password, which peer authentication never does")
            elif kind == b"E":
                fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
                refused = ServerRefused(fields.get(b"C", "XX000"), fields.get(b"M", "no text"))
                if fields.get(b"S") in ("FATAL", "PANIC"):
                    raise refused
        if refused:
            raise refused
        return rows

    def _read_message(self) -> tuple[bytes, bytes]:
        head = self._stream.read(5)
        if len(head) < 5:
            raise ConnectionResetError("PostgreSQL closed the connection")
        length = struct.unpack("!i", head[1:])[0] - 4
        return head[:1], self._stream.read(length)


def _row(body: bytes) -> Row:
    (columns,) = struct.unpack("!h", body[:2])
    values: list[str | None] = []
    at = 2
    for _ in range(columns):
        (length,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    return tuple(values)
