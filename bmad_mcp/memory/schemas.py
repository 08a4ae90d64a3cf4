"""What goes out about memories."""

from datetime import datetime
from typing import Any, Self

from bmad_mcp.memory.invisible import flags_of
from bmad_mcp.memory.provider import Remembered
from bmad_mcp.memory.recall import Recall
from bmad_mcp.shapes import Out


class MemoryItem(Out):
    """A memory that was found, with its provenance; `flags` names characters that people do not see in it."""

    id: str | None = None
    text: str
    category: str
    score: float | None
    confidence: float | None
    created_at: datetime
    agent: str | None = None
    author: str | None = None
    why: str | None = None
    source: str | None = None
    flags: list[str] | None = None

    @classmethod
    def found(cls, memory: Remembered, *, longest: int | None = None, source: str | None = None) -> Self:
        """The memory as an item; with `longest` its text is cut and its id left out."""
        is_cut = longest is not None and len(memory.text) > longest
        more: dict[str, Any] = {
            "id": None if longest else memory.ref,
            "agent": memory.agent,
            "author": memory.author_kind,
            "why": memory.why,
            "source": source,
            "flags": flags_of(memory.text) or None,
        }
        return cls(
            text=memory.text[:longest].rstrip() + "…" if is_cut else memory.text,
            category=memory.category,
            score=memory.score,
            confidence=memory.confidence,
            created_at=memory.created_at,
            **{name: value for name, value in more.items() if value},
        )


class MemoryFound(Out):
    """What the memory found, best first, and which memory it was; `freshness` and `note` tell of a service."""

    source: str
    items: list[MemoryItem]
    freshness: str | None = None
    note: str | None = None

    @classmethod
    def of_recall(cls, found: Recall, *, longest: int | None = None) -> Self:
        """The answer for a look-up."""
        items = [
            MemoryItem.found(item, longest=longest, source="builtin" if item.ref in found.from_here else None)
            for item in found.items
        ]
        more = {"freshness": found.freshness, "note": found.note}
        return cls(source=found.source, items=items, **{name: value for name, value in more.items() if value})


class Provenance(Out):
    """Where a memory comes from: who stored it (`principal`, a person, an agent or a job as `author` says) in which
    agent's name, and how far it is on its way to a memory service.
    """

    id: str
    principal: str
    author: str
    agent: str | None = None
    created_at: datetime
    delivery: str
    provider: str | None = None
    attempts: int
    failure: str | None = None


class ProvenanceFound(Out):
    """The project, and where those of the memories come from that its database keeps."""

    project: str
    items: list[Provenance]


class MemoryReceipt(Out):
    """What was kept: `because` tells the words that led to the category when it was left out."""

    id: str | None
    category: str
    delivery: str
    because: list[str] | None = None
    flags: list[str] | None = None


class MemoryStored(Out):
    """The answer of memory_store."""

    memory: MemoryReceipt
