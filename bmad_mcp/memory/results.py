"""Takes memories out of encrypted results that are remembered for repeated calls."""

import json

from bmad_mcp.db import Transaction
from bmad_mcp.encryption.columns import RESULT
from bmad_mcp.encryption.vaults import Unreadable, row_of
from bmad_mcp.memory import keeping_queries


async def forget_sealed_results(db: Transaction) -> None:
    """A repeated call is given its first answer again; that one must not bring back what was forgotten."""
    if db.vault is None:
        return
    for row in await db.fetch(keeping_queries.SEALED_RESULTS):
        owner = (row["principal"], row["operation"], row["key"])
        try:
            result = json.loads(await db.vault.open(db, RESULT, row_of(*owner), row["result"]))
        except Unreadable:
            continue
        holder = result if row["operation"] == "memory_context" else result.get("memory")
        if isinstance(holder, dict) and holder.get("items"):
            holder["items"] = []
            sealed = await db.seal(RESULT, row_of(*owner), json.dumps(result))
            await db.execute(keeping_queries.CHANGE_RESULT, *owner, sealed)
