"""The memory in the project's own database: kept and found in the caller's transaction."""

import math
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from bmad_mcp.counts import counted
from bmad_mcp.db import Transaction, uuid7
from bmad_mcp.encryption import columns
from bmad_mcp.memory import outbox, queries, spelling, vector_queries
from bmad_mcp.memory.categories import LESSONS, category_of
from bmad_mcp.memory.confidence import confidence_of
from bmad_mcp.memory.embedder import Embedder, in_a_sentence
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.marking import Asked, as_asked, as_kept
from bmad_mcp.memory.provider import Health, NewMemory, Question, Receipt, Remembered
from bmad_mcp.memory.vectors import NONE_CLOSE, Close, close_to

# How much each of these may move a score up or down.
RECENCY, CERTAINTY, OWN, FITTING = 0.1, 0.05, 1.05, 1.03
FRESH_DAYS = 30.0
# Where nothing fits, each one is a guess.
BEGINNING = 3


class BuiltinMemory:
    """Memories in PostgreSQL, of the transaction's project. References are UUIDs."""

    name = "builtin"

    def __init__(
        self, db: Transaction, embedder: Embedder | None = None, *, is_queued: bool = False, operation: str = ""
    ) -> None:
        """`embedder`: memories are also found by meaning. `is_queued`: what is kept now waits for delivery to a service.
        `operation`: who keeps it, for the notes.
        """
        self._db = db
        # A vector tells what a text means, so an encrypted project has none.
        self._embedder = embedder if db.vault is None else None
        self._is_queued = is_queued
        self._operation = operation

    async def remember(self, memories: Sequence[NewMemory]) -> list[Receipt]:
        """Keep these texts, note each and queue it where it goes to a service; blank ones are `empty`."""
        receipts = []
        for memory in memories:
            if not memory.text.strip():
                receipts.append(Receipt(None, "empty"))
                continue
            receipt, values = await self.as_values(memory)
            await self._db.execute(queries.STORE, *values)
            receipts.append(receipt)
        return receipts

    async def as_values(self, memory: NewMemory) -> tuple[Receipt, tuple[Any, ...]]:
        """What a statement with `queries.keeping` takes to keep a text that is not blank, and the receipt for it."""
        ref = uuid7()
        delivery: Literal["queued", "stored"] = "queued" if self._is_queued else "stored"
        (kept,) = await as_kept(self._db, {str(ref): memory.text})
        return Receipt(str(ref), delivery), (
            ref,
            kept.text,
            memory.category,
            memory.agent,
            memory.author_kind,
            memory.principal,
            memory.confidence,
            kept.identifiers,
            delivery,
            self._operation,
            outbox.ENTRYPOINT,
            outbox.payload_of(self._db.project_id, memory.agent),
            kept.search,
            kept.mark,
        )

    async def recall(self, question: Question) -> list[Remembered]:
        """The memories that fit best, best first; with the score 0 what the question wants when none does."""
        if question.otherwise == "beginning" and not question.text.strip():
            return await self._beginning(question)
        found = await self._fitting(question)
        if question.otherwise == "latest" or any(one.score for one in found):
            return found
        return await self._beginning(question) if question.otherwise == "beginning" else []

    async def _beginning(self, question: Question) -> list[Remembered]:
        rows = await self._db.fetch(queries.BEGINNING, question.agent, question.limit, list(LESSONS))
        first = {row["same"]: row for row in reversed(rows)}
        chosen = [row for row in rows if first[row["same"]] is row][: min(question.limit, BEGINNING)]
        return [
            _remembered(
                {**row, "text": await self._db.reveal(columns.MEMORY, str(row["id"]), row["text"])},
                0.0,
                _why(row, question.agent, ()),
            )
            for row in chosen
        ]

    async def _fitting(self, question: Question) -> list[Remembered]:
        if self._db.vault is not None:
            asked = await as_asked(self._db, self._db.vault, question.text)
            rows = await self._look(queries.RECALL_MARKED, question, asked)
            return _ranked(await self._readable(rows, asked), question, ())
        asked = Asked(question.text, identifiers_of(question.text))
        close = await close_to(self._db, self._embedder, question)
        rows = await self._look(queries.RECALL, question, asked, close=close)
        meant = await self._meant(rows)
        if meant:
            rows = await self._look(queries.RECALL, question, asked, meant, close)
        return _ranked(rows, question, meant)

    async def _readable(self, rows: Sequence[Any], asked: Asked) -> list[dict[str, Any]]:
        """Rows of an encrypted project with their texts, and words instead of marks."""
        return [
            {**asked.plain(row), "text": await self._db.reveal(columns.MEMORY, str(row["id"]), row["text"])}
            for row in rows
        ]

    async def _look(
        self, statement: str, question: Question, asked: Asked, more: Sequence[str] = (), close: Close = NONE_CLOSE
    ) -> list[Any]:
        return await self._db.fetch(
            statement,
            asked.text,
            asked.identifiers,
            question.agent,
            question.category,
            question.agent if question.only_agent else None,
            question.since,
            question.limit,
            list(more),
            close.ids,
            close.closeness,
        )

    async def _meant(self, rows: Sequence[Any]) -> list[str]:
        """What the misspelt words of a question may stand for, when half of its words are unknown."""
        if not rows or 2 * len(rows[0]["unknown"]) < rows[0]["asked"]:
            return []
        unknown = [word for word in rows[0]["unknown"] if len(word) >= spelling.SHORTEST and word.isalpha()]
        if not unknown:
            return []
        lengths = [len(word) for word in unknown]
        found = await self._db.fetch(
            queries.VOCABULARY,
            sorted({word[0] for word in unknown}),
            min(lengths) - spelling.LENGTHS_APART,
            max(lengths) + spelling.LENGTHS_APART,
        )
        vocabulary = [row["word"] for row in found]
        return list(dict.fromkeys(known for word in unknown for known in spelling.alike(word, vocabulary)))

    async def related(self, ref: str, limit: int) -> list[Remembered] | None:
        """The memories that share names, words, meaning or category with one; None when there is no such memory."""
        source = as_uuid(ref)
        text = await self._db.fetchval(queries.TEXT, source) if source is not None else None
        if text is None:
            return None
        close = await close_to(self._db, self._embedder, Question(text), but=source)
        rows = await self._db.fetch(queries.RELATED, source, limit, close.ids, close.closeness)
        if self._db.vault is not None:
            asked = await as_asked(self._db, self._db.vault, await self._db.reveal(columns.MEMORY, str(source), text))
            rows = await self._readable(rows, asked)
        nudged = [(float(row["score"]) * _nudge(row), row) for row in rows]
        return [_remembered(row, score, _why_related(row)) for score, row in _best(nudged, limit)]

    async def forget(self, refs: Sequence[str]) -> int:
        """Delete these memories; how many there were."""
        known = [found for found in map(as_uuid, refs) if found is not None]
        count = int((await self._db.execute(queries.FORGET, known)).rsplit(" ", 1)[1])
        if count:
            await self._db.execute(vector_queries.FORGET_CENTRE)
        return count

    async def health(self) -> Health:
        """Always well while the database answers."""
        told = f"{counted(await self._db.fetchval(queries.COUNT), 'memory', 'memories')} in the project's database."
        return Health(True, f"{told} {in_a_sentence(self._embedder)}")


def as_uuid(ref: str) -> UUID | None:
    """The id here that a reference is; None for those of other stores."""
    try:
        return UUID(ref)
    except ValueError:
        return None


def _ranked(rows: Sequence[Any], question: Question, meant: Sequence[str]) -> list[Remembered]:
    asked = category_of(question.text)
    category = asked.category if asked.words else None
    nudged = []
    for row in rows:
        own = OWN if question.agent and row["agent"] == question.agent else 1.0
        fits = FITTING if row["category"] == category else 1.0
        nudged.append((float(row["score"] or 0) * _nudge(row) * own * fits, row))
    # Of equal ones the asker's own come first: so do the latest when nothing matches.
    best = _best(nudged, question.limit, question.agent)
    return [_remembered(row, score, _why(row, question.agent, meant)) for score, row in best]


def _best(scored: list[tuple[float, Any]], limit: int, agent: str | None = None) -> list[tuple[float, Any]]:
    """The best of these, each text once: the others are told by how often it was stored."""

    def order(pair: tuple[float, Any]) -> tuple[float, bool, float, str]:
        score, row = pair
        return score, agent is not None and row["agent"] == agent, -row["days"], str(row["id"])

    best: dict[int, tuple[float, Any]] = {}
    for pair in sorted(scored, key=order, reverse=True):
        best.setdefault(pair[1]["same"], pair)
    return list(best.values())[:limit]


def _nudge(row: Any) -> float:
    """Age ±10 %, and ±5 % for how sure the memory is."""
    age = 1 - RECENCY + 2 * RECENCY * math.exp(-max(row["days"], 0.0) / FRESH_DAYS)
    return age * (1 - CERTAINTY + 2 * CERTAINTY * _confidence(row))


def _confidence(row: Any) -> float:
    return confidence_of(row["confidence"], row["author_kind"], row["confirmed"], row["days"])


def _remembered(row: Any, score: float, why: str) -> Remembered:
    return Remembered(
        ref=str(row["id"]),
        text=row["text"],
        category=row["category"],
        created_at=row["created_at"],
        score=min(1.0, round(score, 3)),
        confidence=_confidence(row),
        agent=row["agent"],
        author_kind=row["author_kind"],
        why=why,
    )


def _shared(row: Any, meant: Sequence[str] = ()) -> list[str]:
    words = [word for word in row["words"] if word not in row["names"] and any(map(str.isalpha, word))]
    named = [f"names {', '.join(row['names'])}"] if row["names"] else []
    plain, guessed = (
        list(dict.fromkeys(spelling.as_written(word, row["text"]) for word in words if (word in meant) is is_meant))
        for is_meant in (False, True)
    )
    return [
        *named,
        *([f"words {', '.join(plain)}"] if plain else []),
        *([f"spelt like {', '.join(guessed)}"] if guessed else []),
        *(["close in meaning"] if row["is_close"] else []),
    ]


def _why(row: Any, agent: str | None, meant: Sequence[str]) -> str:
    reasons = _shared(row, meant) if row["score"] else ["latest"]
    confirmed = [f"stored {row['confirmed'] + 1} times"] if row["confirmed"] > 0 else []
    return "; ".join([*reasons, *confirmed, *([f"by {agent}"] if agent and row["agent"] == agent else [])])


def _why_related(row: Any) -> str:
    return "; ".join([*_shared(row), *(["same category"] if row["same_category"] else [])])
