"""What happens in this process, told to whoever measures it; where nobody does, it costs next to nothing."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bmad_mcp.errors import BmadError

logger = logging.getLogger("bmad_mcp.call")


@dataclass(slots=True)
class CallRecord:
    """One call of an operation: who, where, how it ended (`ok`, an error's code, `cancelled`), and what it took.

    `statements` counts round trips to the database, BEGIN and COMMIT included; `seconds` is set at the end.
    """

    operation: str
    principal: str
    project: str | None = None
    id: str | None = None
    outcome: str = "ok"
    seconds: float = 0.0
    statements: int = 0
    began: float = field(default_factory=time.perf_counter)


# The call that the current task works for.
current_call: ContextVar[CallRecord | None] = ContextVar("bmad_call", default=None)


class Observer:
    """Measures what happens: override what is of interest. Methods are called on the event loop and must not wait."""

    def call_ended(self, call: CallRecord) -> None:
        """An operation ran, or was refused."""

    def request_ended(self, method: str, tool: str, error: str, transport: str, seconds: float) -> None:
        """An MCP request was answered; `tool` and `error` may be empty. All words come from fixed sets."""

    def statement_ended(self, seconds: float) -> None:
        """The database answered a statement, or failed to."""

    def statement_was_slow(self, name: str) -> None:
        """A statement took longer than the operator's bound."""

    def connection_acquired(self, seconds: float) -> None:
        """Somebody waited so long for a connection of the pool, and got one or gave up."""

    def lookup_ended(self, provider: str, outcome: str, seconds: float) -> None:
        """The memory was asked what it knows."""

    def delivery_ended(self, provider: str, outcome: str, seconds: float) -> None:
        """A try to deliver a memory to the service ended."""

    def job_ended(self, job: str, outcome: str, seconds: float) -> None:
        """A scheduled job ran in this process."""

    def request_refused(self, reason: str) -> None:
        """Somebody was not let in, or may not do what they asked for."""


_observers: tuple[Observer, ...] = ()


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Tell the observer everything that happens while the block runs."""
    global _observers
    _observers = (*_observers, observer)
    try:
        yield
    finally:
        _observers = tuple(one for one in _observers if one is not observer)


class recorded_call:
    """Record a call while the block runs: `with recorded_call("task_get", "ann") as record`."""

    __slots__ = ("_record", "_token")

    def __init__(self, operation: str, principal: str) -> None:
        self._record = CallRecord(operation, principal)
        self._token: Token[CallRecord | None] | None = None

    def __enter__(self) -> CallRecord:
        self._token = current_call.set(self._record)
        return self._record

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        record = self._record
        record.seconds = time.perf_counter() - record.began
        record.outcome = outcome_of(error)
        if logger.isEnabledFor(logging.INFO):
            more = {
                "outcome": record.outcome,
                "duration_ms": round(record.seconds * 1000, 1),
                "statements": record.statements,
            }
            logger.info(
                "%s %s in %.1f ms", record.operation, record.outcome, record.seconds * 1000, extra={"more": more}
            )
        for observer in _observers:
            observer.call_ended(record)
        assert self._token is not None
        current_call.reset(self._token)


class timed:
    """Measures a block: `with timed() as took`, then `took.seconds`."""

    __slots__ = ("_began", "seconds")

    def __enter__(self) -> Self:
        self.seconds = 0.0
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began


def outcome_of(error: BaseException | None) -> str:
    """How something ended, in a word of a fixed set."""
    match error:
        case None:
            return "ok"
        case BmadError():
            return error.code
        case asyncio.CancelledError():
            return "cancelled"
        case _:
            return "error"


def request_ended(method: str, tool: str, error: str, transport: str, seconds: float) -> None:
    for observer in _observers:
        observer.request_ended(method, tool, error, transport, seconds)


def statement_ended(seconds: float) -> None:
    for observer in _observers:
        observer.statement_ended(seconds)


def statement_was_slow(name: str) -> None:
    for observer in _observers:
        observer.statement_was_slow(name)


def connection_acquired(seconds: float) -> None:
    for observer in _observers:
        observer.connection_acquired(seconds)


def lookup_ended(provider: str, outcome: str, seconds: float) -> None:
    for observer in _observers:
        observer.lookup_ended(provider, outcome, seconds)


def delivery_ended(provider: str, outcome: str, seconds: float) -> None:
    for observer in _observers:
        observer.delivery_ended(provider, outcome, seconds)


def job_ended(job: str, outcome: str, seconds: float) -> None:
    for observer in _observers:
        observer.job_ended(job, outcome, seconds)


def request_refused(reason: str) -> None:
    for observer in _observers:
        observer.request_refused(reason)
