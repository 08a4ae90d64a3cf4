"""Connections that tell what their statements take, and how long a pool lets people wait for one."""

import time
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import Any

import asyncpg

from bmad_mcp.telemetry import events, tracing
from bmad_mcp.telemetry.slow import note_if_slow


class _Statement:
    """One statement while the database works on it."""

    __slots__ = ("_began", "_span", "_sql")

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def __enter__(self) -> None:
        self._span = tracing.begin_statement(self._sql) if tracing.is_on() else None
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._began
        if (call := events.current_call.get()) is not None:
            call.statements += 1
        events.statement_ended(seconds)
        if self._span is not None:
            tracing.end_statement(self._span, error)
        note_if_slow(self._sql, seconds)


class ObservedConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose every statement is measured."""

    __slots__ = ()

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        with _Statement(query):
            return await super().execute(query, *args, timeout=timeout)  # type: ignore[no-any-return]

    async def executemany(self, command: str, args: Iterable[Any], *, timeout: float | None = None, **more: Any) -> Any:
        with _Statement(command):
            return await super().executemany(command, args, timeout=timeout, **more)

    async def fetch(self, query: str, *args: Any, timeout: float | None = None, **more: Any) -> list[Any]:
        with _Statement(query):
            return await super().fetch(query, *args, timeout=timeout, **more)  # type: ignore[no-any-return]

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None, **more: Any) -> Any:
        with _Statement(query):
            return await super().fetchrow(query, *args, timeout=timeout, **more)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        with _Statement(query):
            return await super().fetchval(query, *args, column=column, timeout=timeout)


class Waiting:
    """How many wait for a connection now, in all pools of this process."""

    count = 0


async def acquired(acquiring: Awaitable[Any]) -> Any:
    """Await a connection of a pool, and tell how long that took."""
    began = time.perf_counter()
    Waiting.count += 1
    try:
        return await acquiring
    finally:
        Waiting.count -= 1
        events.connection_acquired(time.perf_counter() - began)
