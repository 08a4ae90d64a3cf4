"""A TCP proxy in front of a server that breaks as networks do: drops, goes silent, slows down, trickles, cuts in the middle."""

import asyncio
from contextlib import suppress

PIECE_SECONDS = 0.05


class FaultyWire:
    """Connections to a Unix socket or a port through a port of this machine; the attributes say what happens to them."""

    def __init__(self, target: str | int) -> None:
        self._target = target
        self.is_silent = False
        self.refuses = False
        self.delay = 0.0
        # Bytes of answers that still come through before the connection is cut; None for all.
        self.cut_after: int | None = None
        # Bytes a second on each connection; None for as many as there are.
        self.answers_rate: float | None = None
        self.requests_rate: float | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FaultyWire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Reset every connection there is."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        if self.refuses:
            writer.transport.abort()
            return
        if isinstance(self._target, int):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        else:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._target)
        both = {writer, inner_writer}
        self._open |= both
        try:
            with suppress(ConnectionError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, inner_writer, is_answer=False))
                    group.create_task(self._pass(inner_reader, writer, is_answer=True))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while chunk := await reader.read(65536):
            if self.is_silent:
                continue
            if self.delay:
                await asyncio.sleep(self.delay)
            if is_answer and self.cut_after is not None:
                writer.write(chunk[: self.cut_after])
                await writer.drain()
                raise ConnectionResetError
            # The rate of now for each piece: a wire that is well again delivers the rest at once.
            while rate := self.answers_rate if is_answer else self.requests_rate:
                size = max(1, int(rate * PIECE_SECONDS))
                if len(chunk) <= size:
                    break
                writer.write(chunk[:size])
                await writer.drain()
                chunk = chunk[size:]
                await asyncio.sleep(size / rate)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError
