"""Rows on their way out of an encrypted project: what is sealed in them, opened."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from bmad_mcp.encryption.people import with_names
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

# The columns that may name people.
PEOPLE = {
    "mcp_members": ("principal",),
    "mcp_memories": ("principal",),
    "mcp_idempotency": ("principal",),
    "bmad_agent_sessions": ("caller",),
    "bmad_checklists": ("runs",),
    "bmad_agent_activity": ("principal", "subject", "detail"),
}


def with_people(table: str, row: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """The row with names in the place of pseudonyms; who was erased keeps theirs."""
    return {**row, **{column: _named(column, row[column], names) for column in PEOPLE.get(table, ()) if column in row}}


def _named(column: str, value: Any, names: Mapping[str, str]) -> Any:
    if column in ("runs", "detail") and isinstance(value, str):
        # A spreadsheet's cell holds the JSON.
        return to_json(with_names(from_json(value), names)).decode() if "~" in value else value
    return with_names(value, names)


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
