"""The memory in the project's own database: kept and found in the caller's transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bmad_mcp.db import Transaction, uuid7
from bmad_mcp.memory import queries
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.provider import Health, NewMemory, Question, Receipt, Remembered


class BuiltinMemory:
    """Memories in PostgreSQL, of the transaction's project. References are UUIDs."""

    name = "builtin"

    def __init__(self, db: Transaction) -> None:
        self._db = db

    async def remember(self, memories: Sequence[NewMemory]) -> list[Receipt]:
        """Keep these texts; blank ones are `empty`."""
        receipts = []
        for memory in memories:
            if not memory.text.strip():
                receipts.append(Receipt(None, "empty"))
                continue
            ref = uuid7()
            await self._db.execute(
                queries.STORE,
                ref,
                memory.text,
                memory.category,
                memory.agent,
                memory.author_kind,
                memory.principal,
                memory.confidence,
                identifiers_of(memory.text),
            )
            receipts.append(Receipt(str(ref), "stored"))
        return receipts

    async def recall(self, question: Question) -> list[Remembered]:
        """The memories that fit best, best first; the latest with the score 0 when none does."""
        rows = await self._db.fetch(
            queries.RECALL,
            question.text,
            identifiers_of(question.text),
            question.agent,
            question.category,
            question.agent if question.only_agent else None,
            question.since,
            question.limit,
        )
        return [_remembered(row, _why(row, question.agent)) for row in rows]

    async def related(self, ref: str, limit: int) -> list[Remembered] | None:
        """The memories that share names, words or category with one; None when there is no such memory."""
        source = _uuid(ref)
        if source is None or not await self._db.fetchval(queries.EXISTS, source):
            return None
        rows = await self._db.fetch(queries.RELATED, source, limit)
        return [_remembered(row, _why_related(row)) for row in rows]

    async def forget(self, refs: Sequence[str]) -> int:
        """Delete these memories; how many there were."""
        known = [found for found in map(_uuid, refs) if found is not None]
        return int((await self._db.execute(queries.FORGET, known)).rsplit(" ", 1)[1])

    async def health(self) -> Health:
        """Always well while the database answers."""
        return Health(True, f"{await self._db.fetchval(queries.COUNT)} memories in the project's database")


def _uuid(ref: str) -> UUID | None:
    try:
        return UUID(ref)
    except ValueError:
        return None


def _remembered(row: Any, why: str) -> Remembered:
    return Remembered(
        ref=str(row["id"]),
        text=row["text"],
        category=row["category"],
        created_at=row["created_at"],
        score=round(float(row["score"]), 3),
        confidence=row["confidence"],
        agent=row["agent"],
        author_kind=row["author_kind"],
        why=why,
    )


def _shared(row: Any) -> list[str]:
    words = [word for word in row["words"] if word not in row["names"] and any(map(str.isalpha, word))]
    named = [f"names {', '.join(row['names'])}"] if row["names"] else []
    return named + ([f"words {', '.join(words)}"] if words else [])


def _why(row: Any, agent: str | None) -> str:
    reasons = _shared(row) if row["score"] else ["latest"]
    return "; ".join([*reasons, f"by {agent}"] if agent and row["agent"] == agent else reasons)


def _why_related(row: Any) -> str:
    return "; ".join([*_shared(row), *(["same category"] if row["same_category"] else [])])
