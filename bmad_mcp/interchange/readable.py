"""Rows on their way out of an encrypted project: what is sealed in them, opened."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bmad_mcp.encryption.vaults import row_of
from bmad_mcp.memory.identifiers import identifiers_of

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Reads, Vault

# The columns of each table that may be sealed.
SEALED = {
    "mcp_memories": ("text",),
    "bmad_agent_sessions": ("summary", "focus"),
    "bmad_tasks": ("summary",),
    "bmad_agent_collaborations": ("note",),
    "mcp_idempotency": ("result",),
}


async def readable(db: "Reads", vault: "Vault", table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with readable texts; a note stands where one cannot be opened."""
    opened: dict[str, Any] = {}
    for column in SEALED.get(table, ()):
        if isinstance(kept := row.get(column), str):
            # A spreadsheet's cell holds the JSON of the text.
            sealed = json.loads(kept) if kept.startswith('"v1.') else kept
            opened[column] = await vault.reveal(db, f"{table}.{column}", _row(table, row), sealed)
    if table == "mcp_memories" and "identifiers" in row and opened.get("text", row["text"]) != row["text"]:
        opened["identifiers"] = identifiers_of(opened["text"])
    if row.get("sessions"):
        opened["sessions"] = [await readable(db, vault, "bmad_agent_sessions", one) for one in row["sessions"]]
    if "result" in opened:
        opened["result"] = _result(opened["result"])
    return {**row, **opened}


def _row(table: str, row: Mapping[str, Any]) -> str:
    match table:
        case "bmad_tasks":
            return str(row.get("key") or row["task_key"])
        case "mcp_idempotency":
            return row_of(row["principal"], row["operation"], row["key"])
        case _:
            return str(row["id"])


def _result(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
