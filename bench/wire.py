"""JSON-RPC clients, over a child's pipes and over HTTP, that add as little of their own as they can."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VERSION = "2025-11-25"
HELLO = {
    "protocolVersion": VERSION,
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "0"},
}
HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": VERSION,
}


def structured(tool: str, message: dict[str, Any]) -> dict[str, Any]:
    """The structured result in an answer, or its text as `text`; raises RuntimeError with the text of a refusal."""
    if "error" in message:
        raise RuntimeError(f"{tool}: {message['error']['message']}")
    result = message["result"]
    if result.get("isError"):
        raise RuntimeError(f"{tool}: {result['content'][0]['text']}")
    found: dict[str, Any] = result.get("structuredContent") or {"text": result["content"][0]["text"]}
    return found


class Child:
    """A server process that speaks MCP on its pipes."""

    def __init__(self, command: Sequence[str], env: dict[str, str], folder: Path | None = None) -> None:
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command, env=env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._next = 0

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self._next += 1
        self._send({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == self._next and "method" not in message:
                return message
        raise RuntimeError(f"the server ended during {method}")

    def hello(self) -> None:
        """The handshake."""
        self.request("initialize", HELLO)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured result of a tool."""
        return structured(tool, self.request("tools/call", {"name": tool, "arguments": arguments}))

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """Close its stdin, as a host does, and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Posted:
    """A connection over HTTP that stays open, one request at a time."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._next = 0
        self.reopen()

    def reopen(self) -> None:
        """Connect anew: servers close what was idle for some seconds."""
        self._connection.close()
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Post a request without reading its answer."""
        self._next += 1
        body = json.dumps({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        self._connection.request("POST", "/mcp", body, HEADERS)

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Post a request and read its answer, plain or as an event."""
        self.send(method, params)
        text = self._connection.getresponse().read().decode()
        data = next((line[6:] for line in text.splitlines() if line.startswith("data: {")), text)
        message: dict[str, Any] = json.loads(data)
        return message

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured result of a tool."""
        return structured(tool, self.request("tools/call", {"name": tool, "arguments": arguments}))

    def close(self) -> None:
        self._connection.close()


def processor_seconds(pid: int) -> float:
    """What the process has used of a processor so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """The memory that the process holds now, its share of what it shares included."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
