"""What can be done with checklists."""

from typing import Annotated, NoReturn

from pydantic import Field

from bmad_mcp.call import Call
from bmad_mcp.checklists import queries
from bmad_mcp.checklists.markdown import checklist_markdown
from bmad_mcp.checklists.running import answered, outcome, told
from bmad_mcp.checklists.schemas import (
    ChecklistBrief,
    ChecklistOut,
    ChecklistPage,
    ChecklistRun,
    ChecklistSection,
    ItemResult,
)
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Cursor, DefinitionName, Limit, Title, decode_cursor, encode_cursor


async def checklist_list(call: Call, limit: Limit = 20, cursor: Cursor | None = None) -> ChecklistPage:
    """List the checklists with their last run."""
    (after,) = decode_cursor(cursor, str) if cursor else ("",)
    rows = await call.db.fetch(queries.LIST, after, limit + 1)
    following = encode_cursor(rows[limit - 1]["name"]) if len(rows) > limit else None
    return ChecklistPage(items=[ChecklistBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def checklist_get(call: Call, checklist: DefinitionName) -> ChecklistOut:
    """Read a checklist by numbered items, and its last runs."""
    row = await call.db.fetchrow(queries.GET, _names(checklist))
    if row is None:
        await _refuse(call, checklist)
    sections: list[ChecklistSection] = []
    for number, item in enumerate(row["items"], start=1):
        if not sections or sections[-1].section != item["section"]:
            sections.append(ChecklistSection(section=item["section"], items={}))
        sections[-1].items[number] = item["text"]
    return ChecklistOut.of(row, sections=sections)


async def checklist_run(
    call: Call,
    checklist: DefinitionName,
    subject: Annotated[Title, Field(max_length=200, description="What is checked, such as story 1.2.")],
    results: Annotated[tuple[ItemResult, ...], Field(max_length=2000)],
) -> ChecklistRun:
    """Mark a checklist's items and store the run; the newest 100 stay.

    Score: pass 1, partial ½, of the items that apply; unanswered counts as not met. Gate: pass > 90, concerns 60–90,
    fail < 60.
    """
    row = await call.db.fetchrow(queries.LOCK, _names(checklist))
    if row is None:
        await _refuse(call, checklist)
    name, texts = row["name"], [item["text"] for item in row["items"]]
    if not texts:
        raise Invalid(f"The checklist {name} has no items to mark. checklist_list shows others.", field="checklist")
    if not results:
        raise Invalid(
            f"`results` is empty: nothing was checked, so nothing is stored. Mark the items 1-{len(texts)} of {name};"
            " checklist_get shows them.",
            field="results",
        )
    answers = answered(name, texts, results)
    found = outcome(answers, len(texts))
    about = " ".join(subject.split())
    run = {
        "subject": about,
        "gate": found.gate,
        "score": found.score,
        "counts": found.counts,
        # The numbers mean the items of the checklist as it was: an import may bring others.
        "of": row["hash"],
        "results": [
            {"item": number, "mark": one.mark, **({"note": one.note} if one.note else {})}
            for number, one in sorted(answers.items())
        ],
    }
    await call.db.execute(queries.RUN, row["id"], run, call.caller.connection, call.caller.principal, call.id)
    return ChecklistRun(
        checklist=name,
        subject=about,
        gate=found.gate,
        score=found.score,
        counts=dict(found.counts),
        **told(texts, answers),
    )


def _names(checklist: str) -> list[str]:
    """The names that may be meant: with and without `.md` and `-checklist`."""
    bare = checklist.removesuffix(".md").removesuffix("-checklist")
    return list(dict.fromkeys([checklist, checklist.removesuffix(".md"), bare, f"{bare}-checklist"]))


async def _refuse(call: Call, checklist: str) -> NoReturn:
    known = ", ".join(await call.db.fetchval(queries.NAMES) or []) or "none"
    raise NotFound(f"There is no checklist {checklist!r}. There are: {known}.", field="checklist")


OPERATIONS = (
    Operation(checklist_list, "GET /checklists", toolset="quality"),
    Operation(
        checklist_get,
        "GET /checklists/{checklist}",
        toolset="quality",
        resource="bmad://checklists/{checklist}",
        markdown=checklist_markdown,
    ),
    Operation(checklist_run, "POST /checklists/{checklist}/run", toolset="quality"),
)
