"""Keeps a text in the memory and notes it, in the caller's transaction; a service gets it afterwards."""

from bmad_mcp.call import Call
from bmad_mcp.memory import outbox
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.provider import NewMemory, Receipt
from bmad_mcp.memory.schemas import MemoryReceipt

LONGEST = 4_000
# What follows from the work itself is surer than what somebody tells.
FROM_WORK = 0.8


async def remember(
    call: Call, text: str, category: str, *, agent: str | None = None, confidence: float = 0.7
) -> Receipt:
    """Keep a text as this caller's; the receipt says `stored`, or `queued` when a service gets it too."""
    memory = BuiltinMemory(call.db, is_queued=outbox.is_delivering(call), operation=call.operation)
    new = NewMemory(text, category, call.caller.kind, call.caller.principal, agent, confidence)
    (receipt,) = await memory.remember([new])
    return receipt


async def remember_work(call: Call, category: str, said: str, facts: str, *, agent: str | None = None) -> MemoryReceipt:
    """Keep what somebody said of their work with the facts of it; the receipt is for the operation's result.

    Either may be empty. Of a text that is too long for a memory what was said is cut, not the facts.
    """
    kept = said.strip()[: max(0, LONGEST - len(facts) - 1)]
    text = "\n".join(part for part in (kept, facts) if part)[:LONGEST]
    receipt = await remember(call, text, category, agent=agent, confidence=FROM_WORK)
    return MemoryReceipt(id=receipt.ref, category=category, delivery=receipt.status)
