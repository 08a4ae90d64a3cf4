"""Vectors of memories: finding those that are close to a text in meaning, and making those that are missing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction, project_transaction, rows_of
from bmad_mcp.memory import vector_queries
from bmad_mcp.memory.embedder import MODEL, Embedder
from bmad_mcp.memory.provider import Question

if TYPE_CHECKING:
    from bmad_mcp.memory.embedding_model import EmbeddingModel

# Memories that have nothing to do with a question are rarely closer than this.
CLOSE = 0.22
MOST_CLOSE = 60
AT_ONCE = 500
# The centre is made again when there are so many times the memories that it was made of.
GROWN = 4


@dataclass(frozen=True, slots=True)
class Close:
    """Memories close to a text in meaning, closest first, and how close: 1 is the same."""

    ids: Sequence[UUID] = ()
    closeness: Sequence[float] = ()


NONE_CLOSE = Close()


async def close_to(db: Transaction, embedder: Embedder | None, question: Question, but: UUID | None = None) -> Close:
    """The memories that are close to a question and fit its filters; none while the model is being loaded.

    `but` is left out.
    """
    model = embedder.model_at_hand() if embedder is not None else None
    if model is None:
        return NONE_CLOSE
    asked = await asyncio.to_thread(model.embed, [question.text])
    row = await db.fetchrow(
        vector_queries.NEAREST,
        asked[0].tolist(),
        MODEL,
        question.category,
        question.agent if question.only_agent else None,
        question.since,
        but,
    )
    if not row["ids"]:
        return NONE_CLOSE
    found = model.closeness(asked, row["centre"], row["codes"])
    best = sorted(zip(found, row["ids"], strict=True), reverse=True)[:MOST_CLOSE]
    close = [(one, memory_id) for one, memory_id in best if one >= CLOSE]
    return Close([memory_id for _, memory_id in close], [one for one, _ in close])


async def embed_missing(opened: OpenProject, embedder: Embedder) -> int:
    """Make a vector for each memory that has none, the newest first; how many were made.

    A project that has grown much since its centre was made gets a new one, and all its vectors anew.
    """
    async with project_transaction(opened.pool, opened.id) as db:
        state = await db.fetchrow(vector_queries.STATE)
    centre, made_at = state["centre"], state["made_at"]
    has_outgrown = state["model"] != MODEL or state["memories"] >= GROWN * state["made_of"]
    if not state["memories"] or (state["memories"] == state["vectors"] and not has_outgrown):
        return 0
    model = await embedder.model()
    if has_outgrown:
        centre, made_at = await _new_centre(opened, model, state["memories"])
    async with project_transaction(opened.pool, opened.id) as db:
        missing = [row["id"] for row in await db.fetch(vector_queries.MISSING)]
    made = 0
    for start in range(0, len(missing), AT_ONCE):
        async with project_transaction(opened.pool, opened.id) as db:
            rows = await db.fetch(vector_queries.TEXTS, missing[start : start + AT_ONCE])
            if not rows:
                continue
            codes = await asyncio.to_thread(model.coded, [row["text"] for row in rows], centre)
            made += rows_of(
                await db.execute(vector_queries.STORE_VECTORS, made_at, [row["id"] for row in rows], *codes)
            )
    return made


async def _new_centre(opened: OpenProject, model: "EmbeddingModel", memories: int) -> tuple[list[float], datetime]:
    async with project_transaction(opened.pool, opened.id) as db:
        texts = [row["text"] for row in await db.fetch(vector_queries.NEWEST, vector_queries.MANY)]
        centre = await asyncio.to_thread(model.centre_of, texts)
        made_at = await db.fetchval(vector_queries.SET_CENTRE, MODEL, centre, memories)
        await db.execute(vector_queries.FORGET_VECTORS)
    return centre, made_at
