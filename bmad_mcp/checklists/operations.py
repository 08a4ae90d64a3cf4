"""What can be asked of checklists."""

from bmad_mcp.call import Call
from bmad_mcp.checklists import queries
from bmad_mcp.checklists.markdown import checklist_markdown
from bmad_mcp.checklists.schemas import ChecklistBrief, ChecklistOut, ChecklistPage, ChecklistSection
from bmad_mcp.errors import NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Cursor, DefinitionName, Limit, decode_cursor, encode_cursor


async def checklist_list(call: Call, limit: Limit = 20, cursor: Cursor | None = None) -> ChecklistPage:
    """List the checklists."""
    (after,) = decode_cursor(cursor, str) if cursor else ("",)
    rows = await call.db.fetch(queries.LIST, after, limit + 1)
    following = encode_cursor(rows[limit - 1]["name"]) if len(rows) > limit else None
    return ChecklistPage(items=[ChecklistBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def checklist_get(call: Call, checklist: DefinitionName) -> ChecklistOut:
    """Read a checklist item by item."""
    bare = checklist.removesuffix(".md").removesuffix("-checklist")
    names = dict.fromkeys([checklist, checklist.removesuffix(".md"), bare, f"{bare}-checklist"])
    row = await call.db.fetchrow(queries.GET, list(names))
    if row is None:
        known = ", ".join(await call.db.fetchval(queries.NAMES) or []) or "none"
        raise NotFound(f"There is no checklist {checklist!r}. There are: {known}.", field="checklist")
    sections: list[ChecklistSection] = []
    for item in row["items"]:
        if not sections or sections[-1].section != item["section"]:
            sections.append(ChecklistSection(section=item["section"], items=[]))
        sections[-1].items.append(item["text"])
    return ChecklistOut.of(row, sections=sections)


OPERATIONS = (
    Operation(checklist_list, "GET /checklists", toolset="quality"),
    Operation(
        checklist_get,
        "GET /checklists/{checklist}",
        toolset="quality",
        resource="bmad://checklists/{checklist}",
        markdown=checklist_markdown,
    ),
)
