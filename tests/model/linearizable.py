"""Decides whether a history of concurrent calls on one thing can be told as calls one after another (linearizability)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

State = TypeVar("State")


@dataclass(frozen=True)
class Event:
    """A call: between `began` and `ended` (nanoseconds of one clock) it took effect, if it did.

    `answer` None: nobody heard one, so the call may have taken effect at any time since, or never.
    """

    name: str
    asked: Any
    answer: Any
    began: int
    ended: int | None = None


def is_linearizable(events: Iterable[Event], begin: State, step: Callable[[State, Event], State | None]) -> bool:
    """Whether some order, in which no call comes before one that ended before it began, explains every answer.

    `step` gives the state after a call, or None where the state does not allow its answer; states can be hashed.
    The search is that of Wing and Gong with Lowe's memory of what was tried.
    """
    calls = sorted(events, key=lambda event: event.began)
    heard = sum(1 << at for at, event in enumerate(calls) if event.answer is not None)
    tried: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, begin)]
    while stack:
        done, state = stack.pop()
        if done & heard == heard:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        first_end = min(
            event.ended for at, event in enumerate(calls) if event.answer is not None and not done >> at & 1
        )
        for at, event in enumerate(calls):
            if event.began > first_end:
                break
            if not done >> at & 1 and (after := step(state, event)) is not None:
                stack.append((done | 1 << at, after))
    return False
