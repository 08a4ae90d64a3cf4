"""Follows the trail of a project: what changed since the last look, however late its transaction committed."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.activity import queries
from bmad_mcp.activity.operations import subject_of

# What a subject of the trail may begin with when it names one thing.
NOUNS = ("task", "story", "epic", "workflow", "handoff", "artifact", "agent", "checklist", "template")
# Subjects that only the trail itself shows.
_UNSEEN = frozenset({"token", "member", "retention", "memory"})
# A row's id is made a moment before its transaction is known to others.
_MARGIN = timedelta(seconds=2)
# At the start, how long a transaction may have been on its way: the limits of statements and of idling, added up.
_OLDEST = timedelta(seconds=90)
# A row's time is the begin of its transaction, which is this much before its id at most.
_LONGEST = timedelta(days=1)
# More than so many at once are not told apart.
PAGE = 2000


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed: the keys of things by their noun; `is_wide` when anything of the project may have."""

    keys: Mapping[str, frozenset[str]]
    is_wide: bool
    latest: UUID

    def has(self, nouns: Iterable[str]) -> bool:
        """Whether a thing of one of these kinds changed."""
        return self.is_wide or any(self.keys.get(noun) for noun in nouns)


class Trail:
    """A place in the trail that moves on as it is read. Rows commit in another order than their ids: none is missed.

    Every look marks which transactions had begun by then. Once they have all ended, rows with ids from before that
    look can no longer come, and the place moves there. Rows after the place that were told are remembered.
    """

    def __init__(self, project_id: UUID) -> None:
        self._project_id = project_id
        self._place: datetime | None = None
        self._told: set[UUID] = set()
        self._marks: deque[tuple[int, datetime]] = deque()

    async def begin(self, connection: asyncpg.Connection) -> None:
        """Stand at the end, or where it stood on a connection that was lost: another server may answer now."""
        self._marks.clear()
        if self._place is None:
            async with connection.transaction():
                now = await connection.fetchval("SELECT clock_timestamp()")
            self._place = now - _OLDEST
            await self.read(connection)

    async def read(self, connection: asyncpg.Connection) -> Changes | None:
        """What changed since the last look; None when nothing did."""
        assert self._place is not None
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.project', $1, true)", str(self._project_id))
            rows = await connection.fetch(
                queries.FOLLOW, _first_id(self._place), self._place - _LONGEST, list(self._told), PAGE
            )
            new = [row for row in rows if row["id"] is not None]
            keys, is_wide = _keys_of(new)
            is_wide = is_wide or len(new) == PAGE
            if keys and not is_wide:
                for row in await connection.fetch(queries.RELATED, *_numbers(keys)):
                    keys.setdefault(row["noun"], set()).add(row["key"])
        self._told.update(row["id"] for row in new)
        self._move_on(rows[0])
        if not new:
            return None
        return Changes({noun: frozenset(found) for noun, found in keys.items()}, is_wide, new[-1]["id"])

    def _move_on(self, look: Any) -> None:
        assert self._place is not None
        if self._marks and look["asked"] < self._marks[-1][1]:
            # The database's clock went back, and ids with it: what is read twice is told twice.
            self._place = look["asked"] - _MARGIN
            self._marks.clear()
        self._marks.append((look["next"], look["asked"]))
        while len(self._marks) > 1 and self._marks[1][0] <= look["unfinished"]:
            self._marks.popleft()
        following, asked = self._marks[0]
        if following <= look["unfinished"]:
            self._place = max(self._place, asked - _MARGIN)
            first = _first_id(self._place)
            self._told = {one for one in self._told if one > first}


def _first_id(moment: datetime) -> UUID:
    """The least id that can be made at that moment; ids begin with milliseconds."""
    return UUID(int=int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)) << 80)


def _keys_of(rows: Iterable[Any]) -> tuple[dict[str, set[str]], bool]:
    keys: dict[str, set[str]] = {}
    is_wide = False
    for row in rows:
        named = [row["subject"], subject_of(row["about"])] if row["about"] else [row["subject"]]
        if row["agent"]:
            named.append(f"agent {row['agent']}")
        for subject in named:
            noun, _, key = subject.partition(" ")
            if noun in NOUNS and key != "archived":
                keys.setdefault(noun, set()).add(key)
            elif noun not in _UNSEEN:
                is_wide = True
    return keys, is_wide


def _numbers(keys: Mapping[str, set[str]]) -> tuple[list[int] | list[str], ...]:
    def numbers(noun: str) -> list[int]:
        return [int(found[1]) for key in keys.get(noun, ()) if (found := re.fullmatch(r"[A-Z]-(\d{1,9})", key))]

    return (
        numbers("task"),
        sorted(keys.get("story", ())),
        numbers("workflow"),
        numbers("handoff"),
        numbers("artifact"),
        sorted(keys.get("agent", ())),
    )
