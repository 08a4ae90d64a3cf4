"""Leaves a service alone for a while when it fails again and again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from bmad_mcp.memory.services.http import Resting, ServiceError
from bmad_mcp.single_flight import SingleFlight

Clock = Callable[[], float]


class CircuitBreaker:
    """Closed: all may try. Open: nobody may. Half open: one may try, and the others wait for what becomes of it."""

    def __init__(
        self,
        purpose: str,
        *,
        failures: int = 3,
        rest_seconds: float = 15.0,
        longest_rest: float = 300.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """Opens after so many failures in a row; each failed trial doubles the rest."""
        self.purpose = purpose
        self._most = failures
        self._first_rest = rest_seconds
        self._longest_rest = longest_rest
        self._clock = clock
        self._failures = 0
        self._rest = rest_seconds
        self._open_until: float | None = None
        self._trial = False

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half_open"

    @property
    def seconds_left(self) -> float:
        """How long it still rests; 0 when somebody may try."""
        return max(0.0, self._open_until - self._clock()) if self._open_until is not None else 0.0

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """One try: a ServiceError that counts is a failure, any other answer is none; raises Resting when open."""
        state = self.state
        if state == "open" or (state == "half_open" and self._trial):
            raise Resting(f"The memory service failed and is left alone ({self.purpose})", self.seconds_left)
        is_trial = self._trial = state == "half_open"
        try:
            yield
        except ServiceError as error:
            self._end(is_trial, failed=error.counts)
            raise
        except BaseException:
            # Cancelled or a mistake of ours: it tells nothing about the service.
            if is_trial:
                self._trial = False
            raise
        self._end(is_trial, failed=False)

    def rest(self, seconds: float) -> None:
        """Open at once, for this long."""
        self._open_until = self._clock() + seconds

    def _end(self, is_trial: bool, *, failed: bool) -> None:
        if is_trial:
            self._trial = False
        elif self._open_until is not None:
            # It began before the breaker opened; only the trial may decide now.
            return
        if not failed:
            self._failures, self._rest, self._open_until = 0, self._first_rest, None
            return
        self._failures += 1
        if is_trial:
            self._rest = min(self._rest * 2, self._longest_rest)
        if is_trial or self._failures >= self._most:
            self.rest(self._rest)


@dataclass(slots=True)
class Guards:
    """What all projects share that use one service: its breakers, its equal look-ups, and whose turn it is to write."""

    clock: Clock = time.monotonic
    read: CircuitBreaker = field(init=False)
    write: CircuitBreaker = field(init=False)
    search: CircuitBreaker = field(init=False)
    flights: SingleFlight = field(default_factory=SingleFlight)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Search by meaning is used only after a probe has shown that it works.
    finds_meaning: bool = False
    # Which of two equal ways to list answered last.
    prefers_list: bool = False

    def __post_init__(self) -> None:
        self.read = CircuitBreaker("read", clock=self.clock)
        self.write = CircuitBreaker("write", clock=self.clock)
        self.search = CircuitBreaker("search", clock=self.clock)
