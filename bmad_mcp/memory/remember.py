"""Keeps a text in the memory and notes the delivery, in the caller's transaction."""

from bmad_mcp.call import Call
from bmad_mcp.memory import queries
from bmad_mcp.memory.provider import NewMemory, Receipt
from bmad_mcp.memory.recall import memory_of


async def remember(
    call: Call, text: str, category: str, *, agent: str | None = None, confidence: float = 0.7
) -> Receipt:
    """Keep a text as this caller's; the receipt says what became of it."""
    memory = memory_of(call)
    new = NewMemory(text, category, call.caller.kind, call.caller.principal, agent, confidence)
    (receipt,) = await memory.remember([new])
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
