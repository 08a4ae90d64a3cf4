"""What can be asked of checklists."""

from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Cursor, DefinitionName, Limit, Out, decode_cursor, encode_cursor

LIST = """
SELECT name, title, source, jsonb_array_length(items) AS items FROM bmad_checklists
WHERE project_id = bmad_project() AND name > $1::text ORDER BY name LIMIT $2::int
"""
GET = """
SELECT name, title, source, items FROM bmad_checklists
WHERE project_id = bmad_project() AND name = ANY($1::text[]) ORDER BY name LIMIT 1
"""
NAMES = "SELECT array_agg(name ORDER BY name) FROM bmad_checklists WHERE project_id = bmad_project()"


class ChecklistBrief(Out):
    """A checklist in one line; `items` is their number."""

    name: str
    title: str
    source: str
    items: int


class ChecklistPage(Out):
    """A page of checklists."""

    items: list[ChecklistBrief]
    next_cursor: str | None


class ChecklistSection(Out):
    """A part of a checklist."""

    section: str
    items: list[str]


class ChecklistOut(Out):
    """A whole checklist, section by section."""

    name: str
    title: str
    source: str
    sections: list[ChecklistSection]


async def checklist_list(call: Call, limit: Limit = 20, cursor: Cursor | None = None) -> ChecklistPage:
    """List the checklists."""
    (after,) = decode_cursor(cursor, str) if cursor else ("",)
    rows = await call.db.fetch(LIST, after, limit + 1)
    following = encode_cursor(rows[limit - 1]["name"]) if len(rows) > limit else None
    return ChecklistPage(items=[ChecklistBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def checklist_get(call: Call, checklist: DefinitionName) -> ChecklistOut:
    """Read a checklist item by item."""
    bare = checklist.removesuffix(".md").removesuffix("-checklist")
    row = await call.db.fetchrow(GET, list(dict.fromkeys([checklist, bare, f"{bare}-checklist"])))
    if row is None:
        known = ", ".join(await call.db.fetchval(NAMES) or []) or "none"
        raise NotFound(f"There is no checklist {checklist!r}. There are: {known}.", field="checklist")
    sections: list[ChecklistSection] = []
    for item in row["items"]:
        if not sections or sections[-1].section != item["section"]:
            sections.append(ChecklistSection(section=item["section"], items=[]))
        sections[-1].items.append(item["text"])
    return ChecklistOut.of(row, sections=sections)


def checklist_markdown(checklist: ChecklistOut) -> str:
    """A checklist as people tick it."""
    lines = [f"# {checklist.title}", ""]
    for section in checklist.sections:
        lines += [f"## {section.section}", ""] if section.section else []
        lines += [*(f"- [ ] {item}" for item in section.items), ""]
    return "\n".join(lines).strip() + "\n"


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
