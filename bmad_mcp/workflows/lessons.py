"""What the memory knows of runs: recalled when one starts, kept when it starts and when it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bmad_mcp.call import Call
from bmad_mcp.counts import counted
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.memory.look_up import Answer
from bmad_mcp.memory.provider import Question
from bmad_mcp.memory.recall import Recall, recall_within_budget
from bmad_mcp.memory.remember import remember_work
from bmad_mcp.memory.schemas import MemoryReceipt
from bmad_mcp.workflows import queries
from bmad_mcp.workflows.schemas import WorkflowBrief

# How many memories a run begins with, and how much of each.
MEMORIES = 3
MEMORY_CHARACTERS = 300
CATEGORY = MemoryCategory.WORKFLOW_PATTERNS
MOST_STAGES = 30
_THEN = " → "


def question_of(definition: str, title: str | None) -> Question:
    """What to ask the memory when a run of a definition starts."""
    return Question(f"{definition} {title or ''}".strip(), category=CATEGORY, limit=MEMORIES)


async def like_it(call: Call, question: Question, answer: Answer | None) -> Recall:
    """What the memory knows of runs like the one that starts; the way that it goes is told by the run itself."""
    wide = replace(question, limit=2 * MEMORIES, otherwise="nothing")
    found = await recall_within_budget(call, wide, answer)
    told = [one for one in found.items if not _is_way(one.text)]
    return replace(found, items=told[:MEMORIES])


def _is_way(text: str) -> bool:
    """Whether a memory was kept at the start of a run, and not at its end."""
    return text.startswith("Run W-") and _THEN in text and "”, was " not in text


async def remember_pattern(call: Call, run: WorkflowBrief, stages: Sequence[Mapping[str, Any]]) -> MemoryReceipt:
    """Keep what a run that starts is about and the way it goes."""
    named = [_stage_words(stage) for stage in stages if stage.get("kind") != "end"]
    way = _THEN.join(name for name in named[:MOST_STAGES] if name)
    more = f"{_THEN}and {len(named) - MOST_STAGES} more" if len(named) > MOST_STAGES else ""
    about = f" for story {run.story}" if run.story else ""
    return await remember_work(call, CATEGORY, "", f"Run {run.key} of {run.type}, “{run.title}”{about}: {way}{more}.")


async def remember_outcome(call: Call, run: WorkflowBrief, run_id: Any) -> MemoryReceipt:
    """Keep how a run ended: how long it took, what was skipped or done again, and what its stages noted."""
    row = await call.db.fetchrow(queries.OUTCOME, run_id)
    skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
    again = f", {row['again']} done again" if row["again"] else ""
    reason = f" Reason: {run.reason}." if run.reason else ""
    facts = (
        f"Run {run.key} of {run.type}, “{run.title}”, was {run.status} after {row['hours']:g} hours:"
        f" {counted(row['done'], 'stage')} done{skipped}{again}.{reason}"
    )
    return await remember_work(call, CATEGORY, "\n".join(row["notes"] or []), facts)


def _stage_words(stage: Mapping[str, Any]) -> str:
    what = stage.get("creates") or stage.get("updates") or stage.get("validates") or stage.get("action")
    return " ".join(str(part) for part in (stage.get("agent"), what or stage.get("step")) if part)
