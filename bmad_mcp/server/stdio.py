"""MCP over stdin and stdout: every line is answered, and nothing but JSON-RPC reaches stdout."""

import asyncio
import os
import select
import stat
import sys
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import anyio
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    JSONRPCError,
    JSONRPCRequest,
    JSONRPCResponse,
)

from bmad_mcp.server.messages import EDGE, UnusableMessage, id_at_edge, read_message

LINE_CAP = 4 * 1024 * 1024
CHUNK = 256 * 1024
# What was asked before the host closed stdin may still be answered; hosts wait two seconds before they kill.
LAST_ANSWERS_SECONDS = 1.5


async def lines(source: int) -> AsyncGenerator[bytes | UnusableMessage, None]:
    """The lines of a descriptor; one over the cap is dropped whole and told as UnusableMessage."""
    async with AsyncExitStack() as stack:
        read = await _reader(source, stack)
        held, head = bytearray(), b""
        while chunk := await read():
            *ended, rest = chunk.split(b"\n")
            for part in ended:
                line, held = bytes(held) + part, bytearray()
                if head or len(line) > LINE_CAP:
                    yield _too_long(head or line, line)
                    head = b""
                elif line.strip():
                    yield line
            held += rest
            if len(held) > LINE_CAP:
                head = head or bytes(held[:EDGE])
            if head:
                del held[:-EDGE]
        if head:
            yield _too_long(head, bytes(held))
        elif held.strip():
            yield bytes(held)


def _too_long(head: bytes, tail: bytes) -> UnusableMessage:
    return UnusableMessage(
        INVALID_REQUEST, "The message is over 4 MiB. Send less text, in several calls.", id_at_edge(head, tail)
    )


def _is_stream(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


async def _reader(source: int, stack: AsyncExitStack) -> Any:
    if os.isatty(source):
        return lambda: _read_terminal(source)
    if not _is_stream(source):
        return lambda: anyio.to_thread.run_sync(os.read, source, CHUNK, abandon_on_cancel=True)
    stream = asyncio.StreamReader(limit=CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(source, "rb", closefd=False)
    )
    stack.callback(transport.close)
    return lambda: stream.read(CHUNK)


async def _read_terminal(source: int) -> bytes:
    # A thread in read() would outlive Ctrl-C, and a pipe transport would leave the shell a non-blocking terminal.
    await anyio.wait_readable(source)
    return os.read(source, CHUNK)


def claim_wire() -> tuple[int, int]:
    """Take stdin and stdout for the protocol: afterwards prints of any code, and of children, go to stderr."""
    sys.stdout.flush()
    wire_in, wire_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return wire_in, wire_out


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Stdin and stdout may be one socket, and reading made it non-blocking.
            select.select([], [descriptor], [])


class Wire:
    """Writes whole lines in the order they come; a host that reads slowly is waited for on a thread, never on the event loop.

    To a host that went away nothing is written: that its end of stdin closes ends the server.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._quick = _is_stream(descriptor)
        self._waiting: deque[tuple[bytes, asyncio.Event]] = deque()
        self._some = asyncio.Event()

    async def send(self, line: bytes) -> None:
        """Write a line. Who is cancelled while it waits for the host leaves the line to be written."""
        # Up to PIPE_BUF bytes fit in a pipe that poll calls writable; more may block.
        if not self._waiting and self._quick and len(line) < select.PIPE_BUF and _writable(self._descriptor):
            with suppress(BrokenPipeError):
                _write_all(self._descriptor, line + b"\n")
            return
        written = asyncio.Event()
        self._waiting.append((line, written))
        self._some.set()
        await written.wait()

    async def write_what_waits(self) -> None:
        """Write what may block, until cancelled."""
        while True:
            await self._some.wait()
            while self._waiting:
                line, written = self._waiting[0]
                with suppress(BrokenPipeError):
                    await anyio.to_thread.run_sync(_write_all, self._descriptor, line + b"\n", abandon_on_cancel=True)
                self._waiting.popleft()
                written.set()
            self._some.clear()


def _writable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


class Unanswered:
    """The requests that were read and not answered yet."""

    def __init__(self) -> None:
        self._ids: set[str | int] = set()
        self._none = asyncio.Event()
        self._none.set()

    def note(self, message: SessionMessage) -> None:
        """Note a request that came in."""
        if isinstance(message.message, JSONRPCRequest):
            self._ids.add(message.message.id)
            self._none.clear()

    def settle(self, message: SessionMessage) -> None:
        """Note an answer that went out."""
        if isinstance(message.message, JSONRPCResponse | JSONRPCError) and message.message.id is not None:
            self._ids.discard(message.message.id)
            if not self._ids:
                self._none.set()

    async def wait(self, seconds: float) -> None:
        """Wait until all are answered, at most that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()


class Incoming:
    """The SDK's stream of messages, read as it asks for them: a task and a queue in between would cost each call 0.1 ms."""

    def __init__(self, source: int, wire: Wire, unanswered: Unanswered) -> None:
        self._lines = lines(source)
        self._wire = wire
        self._unanswered = unanswered

    async def receive(self) -> SessionMessage | Exception:
        """The next message; what is none is answered here."""
        async for line in self._lines:
            try:
                if isinstance(line, UnusableMessage):
                    raise line
                message = read_message(line)
            except UnusableMessage as unusable:
                await self._wire.send(unusable.reply())
                continue
            self._unanswered.note(message)
            return message
        await self._unanswered.wait(LAST_ANSWERS_SECONDS)
        raise anyio.EndOfStream

    async def aclose(self) -> None:
        await self._lines.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Outgoing:
    """The SDK's other stream: a message is written by whoever sends it."""

    def __init__(self, wire: Wire, unanswered: Unanswered) -> None:
        self._wire = wire
        self._unanswered = unanswered
        self._is_closed = False

    async def send(self, message: SessionMessage, /) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        await self._wire.send(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        self._unanswered.settle(message)

    async def aclose(self) -> None:
        self._is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def serve_stdio(server: Server[Any]) -> None:
    """Serve until the host closes stdin, or goes away."""
    wire_in, wire_out = claim_wire()
    wire, unanswered = Wire(wire_out), Unanswered()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.write_what_waits)
        await server.run(
            Incoming(wire_in, wire, unanswered), Outgoing(wire, unanswered), server.create_initialization_options()
        )
        tasks.cancel_scope.cancel()
