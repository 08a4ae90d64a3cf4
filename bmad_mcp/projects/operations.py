"""What can be asked of a project itself."""

from typing import Annotated, Literal

from pydantic import Field

from bmad_mcp.call import Call
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Out

SHOWN = 50

# Completions ask for keys of every feature; they read the tables and nothing else of them.
_KEYS = {
    "agent": "SELECT name AS key FROM bmad_agents WHERE project_id = bmad_project() AND name LIKE $1 ORDER BY name",
    "story": """SELECT key FROM bmad_stories WHERE project_id = bmad_project() AND key LIKE $1
        ORDER BY epic_number, number, suffix""",
    "epic": "SELECT key FROM bmad_epics WHERE project_id = bmad_project() AND key LIKE $1 ORDER BY number, key",
    "task": """SELECT 'T-' || number AS key FROM bmad_tasks WHERE project_id = bmad_project()
        AND status NOT IN ('completed', 'cancelled') AND 'T-' || number LIKE $1 ORDER BY number""",
    "workflow": """SELECT 'W-' || number AS key FROM bmad_workflows WHERE project_id = bmad_project()
        AND 'W-' || number LIKE $1 ORDER BY number DESC""",
    "template": """SELECT name AS key FROM bmad_templates WHERE project_id = bmad_project() AND kind = 'document'
        AND name LIKE $1 ORDER BY name""",
    "checklist": """SELECT name AS key FROM bmad_checklists WHERE project_id = bmad_project() AND name LIKE $1
        ORDER BY name""",
}


class Keys(Out):
    """Keys that begin with what was typed."""

    keys: list[str]
    more: bool


async def key_list(
    call: Call,
    kind: Literal["agent", "story", "epic", "task", "workflow", "template", "checklist"],
    prefix: Annotated[str, Field(max_length=100)] = "",
) -> Keys:
    """Complete a key of this project."""
    typed = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = await call.db.fetch(f"{_KEYS[kind]} LIMIT {SHOWN + 1}", f"{typed}%")
    return Keys(keys=[row["key"] for row in rows[:SHOWN]], more=len(rows) > SHOWN)


OPERATIONS = (Operation(key_list, "GET /keys", toolset=None),)
