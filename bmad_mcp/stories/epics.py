"""What can be done with epics."""

from typing import NoReturn

from bmad_mcp.activity.similar import marks, refuse_similar
from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound
from bmad_mcp.shapes import Cursor, EpicKey, Limit, LongText, Title, decode_cursor, encode_cursor
from bmad_mcp.stories import queries
from bmad_mcp.stories.acting import acting_agent
from bmad_mcp.stories.context import brief
from bmad_mcp.stories.schemas import EpicBrief, EpicCreated, EpicMade, EpicOut, EpicPage
from bmad_mcp.told_commands import ANY_FOLDER, on_folder

STORIES_SHOWN = 100
EPICS_NAMED = 50


async def epic_create(call: Call, title: Title, goal: LongText = "") -> EpicCreated:
    """Add an epic under the next free number."""
    agent = await acting_agent(call)
    await call.db.execute(queries.LOCK_EPICS)
    same = marks(call, title)
    row = await call.db.fetchrow(
        queries.CREATE_EPIC_UNLESS_SIMILAR if same else queries.CREATE_EPIC,
        title,
        goal.strip(),
        agent,
        call.caller.principal,
        call.id,
        *same,
    )
    if row is None:
        await refuse_similar(call, same)
    return EpicCreated(epic=EpicMade.of(row))


async def epic_list(call: Call, limit: Limit = 20, cursor: Cursor | None = None) -> EpicPage:
    """List the epics with their stories counted by status."""
    sql, position = queries.LIST_EPICS, ()
    if cursor is not None:
        position = decode_cursor(cursor, int, str)
        sql += " AND (e.number, e.key) > ($1::int, $2::text)"
    rows = await call.db.fetch(f"{sql} ORDER BY e.number, e.key LIMIT {limit + 1}", *position)
    page = rows[:limit]
    following = encode_cursor(page[-1]["number"], page[-1]["key"]) if len(rows) > limit else None
    return EpicPage(items=[EpicBrief.of(row) for row in page], next_cursor=following)


async def epic_get(call: Call, epic: EpicKey) -> EpicOut:
    """Read an epic with its stories."""
    row = await call.db.fetchrow(queries.GET_EPIC, epic)
    if row is None:
        await refuse_epic(call, epic)
    rows = await call.db.fetch(
        f"{queries.LIST} AND s.epic_id = $1 ORDER BY s.number, s.suffix LIMIT {STORIES_SHOWN + 1}", row["id"]
    )
    more = f"There are more: story_list epic={epic} lists them all." if len(rows) > STORIES_SHOWN else None
    return EpicOut.of(row, stories=[brief(one) for one in rows[:STORIES_SHOWN]], more=more)


async def refuse_epic(call: Call, epic: str) -> NoReturn:
    """Raises NotFound for an unknown epic, naming those there are."""
    known = await call.db.fetchval(queries.EPIC_KEYS) or []
    if not known:
        raise NotFound(
            "This project has no epic yet. Make one with epic_create (toolset planning), or bring epics in with"
            f" `{on_folder('import', ANY_FOLDER, call.project_key)}`.",
            field="epic",
        )
    listed = ", ".join(known[:EPICS_NAMED]) + (" and more" if len(known) > EPICS_NAMED else "")
    raise NotFound(f"There is no epic {epic}. There are: {listed}. epic_create makes another.", field="epic")
