"""Keeps a text in the memory and notes it, in the caller's transaction; a service gets it afterwards."""

from bmad_mcp.call import Call
from bmad_mcp.memory import outbox, queries
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.provider import NewMemory, Receipt


async def remember(
    call: Call, text: str, category: str, *, agent: str | None = None, confidence: float = 0.7
) -> Receipt:
    """Keep a text as this caller's; the receipt says `stored`, or `queued` when a service gets it too."""
    memory = BuiltinMemory(call.db, is_queued=outbox.is_delivering(call))
    new = NewMemory(text, category, call.caller.kind, call.caller.principal, agent, confidence)
    (receipt,) = await memory.remember([new])
    if receipt.status == "queued":
        await outbox.enqueue(call.db, [agent])
    await call.db.execute(
        queries.NOTE,
        "store",
        memory.name,
        category,
        agent,
        receipt.status,
        1,
        None,
        {"operation": call.operation, "memory": receipt.ref},
    )
    return receipt
