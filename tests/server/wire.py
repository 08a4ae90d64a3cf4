"""The two pipes of a server process, byte by byte: what a well-behaved client library would not let through."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "0"}}


class WireChild:
    """A child process that speaks lines; everything it writes on stdout is kept in `seen`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.seen: list[bytes] = []
        self._rest = b""

    def send(self, *messages: bytes | dict[str, Any]) -> None:
        """Write lines; raw bytes go out as they are."""
        assert self.process.stdin
        for message in messages:
            line = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any] | None = None, request_id: int | str = 1) -> None:
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})

    def line(self, seconds: float = 30) -> bytes:
        """The next line; fails when none comes."""
        assert self.process.stdout
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing came within {seconds} s"
            chunk = os.read(self.process.stdout.fileno(), 1 << 20)
            assert chunk, f"the process ended: {self.errors()}"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        self.seen.append(line)
        return line

    def answer(self, request_id: int | str | None = 1, seconds: float = 30) -> dict[str, Any]:
        """The answer to a request; others that come before it are kept."""
        while True:
            message: dict[str, Any] = json.loads(self.line(seconds))
            if "method" not in message and message["id"] == request_id:
                return message

    def hello(self) -> dict[str, Any]:
        """The handshake of the older protocol era."""
        self.request("initialize", HELLO, "hello")
        found = self.answer("hello")
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return found

    def call(self, tool: str, request_id: int | str = 1, **arguments: Any) -> dict[str, Any]:
        """The result of a tool."""
        self.request("tools/call", {"name": tool, "arguments": arguments}, request_id)
        result: dict[str, Any] = self.answer(request_id)["result"]
        return result

    def close(self, seconds: float = 15) -> int:
        """Close its stdin, read on and wait for its end, as a host does."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        deadline = time.monotonic() + seconds
        # A pipe holds 64 KiB: who writes more waits for whoever reads.
        while self.process.poll() is None and not self.process.stdout.closed and time.monotonic() < deadline:
            if select.select([self.process.stdout], [], [], 0.05)[0]:
                self._rest += os.read(self.process.stdout.fileno(), 1 << 20)
        return self.process.wait(max(0.0, deadline - time.monotonic()))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15) -> tuple[int, float]:
        """Send a signal; its exit code and the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(seconds), time.monotonic() - begun

    def rest(self) -> bytes:
        """What is left on stdout after the end."""
        assert self.process.stdout
        return self._rest + self.process.stdout.read()

    def errors(self) -> str:
        """What the process wrote on stderr up to its end."""
        assert self.process.stderr
        return self.process.stderr.read().decode(errors="replace")

    def kill(self) -> None:
        with self.process:
            self.process.kill()
