"""Logs on stderr, one line a record, as text or as JSON; secrets and the values of rows are taken out of them."""

import json
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from bmad_mcp.telemetry.events import current_call
from bmad_mcp.telemetry.redaction import Redaction
from bmad_mcp.telemetry.tracing import current_trace

Format = Literal["text", "json"]
# What is told to the operator whatever the level is: where the server listens, and what it is doing.
TOLD = "bmad_mcp.told"
_LONGEST_MESSAGE = 8_000
_LONGEST_ERROR = 300
_MOST_FRAMES = 30


def log_to_stderr(level: str, form: Format = "text", secrets: Iterable[str] = ()) -> None:
    """Send logs to stderr from now on; stdout may be a protocol's wire. `secrets` never appear in them."""
    handler = logging.StreamHandler(sys.stderr)
    redaction = Redaction(secrets)
    handler.setFormatter(JsonLines(redaction) if form == "json" else TextLines(redaction))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger(TOLD).setLevel(logging.INFO)
    # They tell of every request and every retry; what matters of that is told by us, without addresses.
    for name in ("httpx", "httpcore", "alembic.runtime.plugins", "pgqueuer"):
        logging.getLogger(name).setLevel(logging.CRITICAL if name == "pgqueuer" else logging.WARNING)
    logging.getLogger("asyncpg.pool").addFilter(_without_frames)


def _without_frames(record: logging.LogRecord) -> bool:
    """The pool looks for a database that is away again and again: a line each time says why, and no stack."""
    if record.exc_info and (error := record.exc_info[1]) is not None:
        record.msg, record.args = "The database is away (%s); trying again", (exception_text(error, None),)
        record.exc_info = None
    return True


class TextLines(logging.Formatter):
    """Lines for people: time, level, logger, message."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redaction

    def formatMessage(self, record: logging.LogRecord) -> str:
        # A line break in a value must not begin a line that looks like another record.
        record.message = _on_one_line(record.message[:_LONGEST_MESSAGE])
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return exception_text(ei[1], ei[2])

    def format(self, record: logging.LogRecord) -> str:
        # Another handler's formatter may have left its own text of the exception.
        record.exc_text = None
        return self._redact(super().format(record))


class JsonLines(logging.Formatter):
    """Lines for machines: {time, level, logger, message} and what is known of the call, its trace and its duration."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redact = redaction

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST_MESSAGE],
        }
        if (trace := current_trace()) is not None:
            told["trace_id"], told["span_id"] = trace
        if (call := current_call.get()) is not None:
            known = {"operation": call.operation, "principal": call.principal, "project": call.project, "call": call.id}
            told |= {name: value for name, value in known.items() if value is not None}
        told |= getattr(record, "more", {})
        if record.exc_info is not None and record.exc_info[1] is not None:
            told["exception"] = exception_text(record.exc_info[1], record.exc_info[2])
        safe = {name: self._redact(value) if isinstance(value, str) else value for name, value in told.items()}
        return json.dumps(safe, ensure_ascii=True, default=str)


def exception_text(error: BaseException, trace: TracebackType | None) -> str:
    """An exception, its causes and where they came from, without the lines that repeat values of rows."""
    return "\n".join(_told_causes(error, trace, set()))


def _told_causes(error: BaseException, trace: TracebackType | None, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _told_causes(cause, cause.__traceback__, seen)
        yield "which led to:"
    # Names of places only: source lines tell nothing that the file does not.
    for frame in traceback.extract_tb(trace, limit=-_MOST_FRAMES):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
    if (state := getattr(error, "sqlstate", None)) is not None:
        # PostgreSQL quotes the value that it refuses, in the message itself.
        constraint = getattr(error, "constraint_name", None)
        yield f"{type(error).__qualname__} (SQLSTATE {state}{f', {constraint}' if constraint else ''})"
    else:
        first = (str(error).splitlines() or [""])[0][:_LONGEST_ERROR]
        yield f"{type(error).__qualname__}: {first}" if first else type(error).__qualname__


def _on_one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
