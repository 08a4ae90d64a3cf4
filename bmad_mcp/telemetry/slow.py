"""Notes of statements that took long: by the name of their constant, never with their values."""

import logging

from bmad_mcp.telemetry import events
from bmad_mcp.telemetry.statement_names import name_of

logger = logging.getLogger("bmad_mcp.slow")

SLOW_SECONDS = 1.0


class _Bound:
    """From which time on a statement is slow; one for the process."""

    seconds = SLOW_SECONDS


def note_slower_than(seconds: float) -> None:
    """Note statements that take this long or longer."""
    _Bound.seconds = seconds


def note_if_slow(sql: str, seconds: float) -> None:
    """Log and count a statement that reached the bound."""
    if seconds < _Bound.seconds:
        return
    name = name_of(sql)
    more = {"statement": name, "duration_ms": round(seconds * 1000, 1)}
    logger.warning("The statement %s took %.3f s", name, seconds, extra={"more": more})
    events.statement_was_slow(name)
