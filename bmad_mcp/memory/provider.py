"""What any memory can do, whoever keeps it: the neutral interface between the operations and a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, Self


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A text to keep, with where it comes from."""

    text: str
    category: str
    author_kind: str
    principal: str
    agent: str | None = None
    confidence: float = 0.7

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """The memory in a row of mcp_memories."""
        return cls(row["text"], row["category"], row["author_kind"], row["principal"], row["agent"], row["confidence"])


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a text: `ref` is the store's own id, None while it is only queued."""

    ref: str | None
    status: Literal["stored", "duplicate", "queued", "empty"]


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for. `agent` goes first in the results; with `only_agent` nothing else is in them.

    `otherwise`: what to give when nothing fits, the latest of all, what its agent begins with, or nothing.
    """

    text: str = ""
    agent: str | None = None
    only_agent: bool = False
    category: str | None = None
    since: datetime | None = None
    limit: int = 5
    otherwise: Literal["latest", "beginning", "nothing"] = "latest"


@dataclass(frozen=True, slots=True)
class Remembered:
    """A memory that was found: `score` from 0 to 1, None where the store gives none; `why` says what matched."""

    ref: str
    text: str
    category: str
    created_at: datetime
    score: float | None = None
    confidence: float | None = None
    agent: str | None = None
    author_kind: str | None = None
    why: str = ""
    # The id here of a memory that this database delivered to a service.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the store answers, with a sentence for people."""

    ok: bool
    detail: str


class MemoryProvider(Protocol):
    """A store of memories, scoped to one project. References are opaque; an unknown one is None or counts nothing."""

    name: str

    async def remember(self, memories: Sequence[NewMemory]) -> list[Receipt]: ...

    async def recall(self, question: Question) -> list[Remembered]: ...

    async def related(self, ref: str, limit: int) -> list[Remembered] | None: ...

    async def forget(self, refs: Sequence[str]) -> int: ...

    async def health(self) -> Health: ...
