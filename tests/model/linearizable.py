"""Decides whether a history of concurrent calls on one thing can be told as calls one after another (linearizability)."""

from collections.abc import Callable, Collection
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


def is_linearizable(events: Collection[Event], begin: State, step: Callable[[State, Event], State | None]) -> bool:
    """Whether some order, in which no call comes before one that ended before it began, explains every answer.

    `step` gives the state after a call, or None where the state does not allow its answer; states can be hashed.
    The search is that of Wing and Gong with Lowe's memory of what was tried. A call that changes nothing comes as soon as
    it can: no other order needs it later.
    """
    calls = sorted((event for event in events if event.answer is not None), key=lambda event: event.began)
    unheard = sorted((event for event in events if event.answer is None), key=lambda event: event.began)
    all_heard = (1 << len(calls)) - 1
    tried: set[tuple[int, int, State]] = set()
    stack: list[tuple[int, int, State]] = [(0, 0, begin)]
    while stack:
        heard, guessed, state = found = stack.pop()
        if heard == all_heard:
            return True
        if found in tried:
            continue
        tried.add(found)
        able, first_end = _next(calls, heard)
        after = {at: step(state, calls[at]) for at in able}
        if (idle := next((at for at in able if after[at] == state), None)) is not None:
            stack.append((heard | 1 << idle, guessed, state))
            continue
        # What somebody heard is tried before what nobody did.
        for at, event in enumerate(unheard):
            if event.began > first_end:
                break
            if not guessed >> at & 1 and (then := step(state, event)) is not None and then != state:
                stack.append((heard, guessed | 1 << at, then))
        stack += [(heard | 1 << at, guessed, then) for at, then in after.items() if then is not None]
    return False


def _next(calls: list[Event], heard: int) -> tuple[list[int], int]:
    """Which of the calls may come next, and when the first of those that are left ended."""
    # The lowest that is not done: there is one, or nobody would ask.
    at = (~heard & heard + 1).bit_length() - 1
    able: list[int] = []
    first_end = calls[at].ended or 0
    while at < len(calls) and calls[at].began <= first_end:
        if not heard >> at & 1:
            able.append(at)
            first_end = min(first_end, calls[at].ended or 0)
        at += 1
    return [at for at in able if calls[at].began <= first_end], first_end
