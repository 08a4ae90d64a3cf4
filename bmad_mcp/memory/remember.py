"""Keeps a text in the memory and notes it, in the caller's transaction; a service gets it afterwards."""

from typing import Any

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
    (receipt,) = await (await _memory(call)).remember([_new(call, text, category, agent, confidence)])
    return receipt


async def remember_work(call: Call, category: str, said: str, facts: str, *, agent: str | None = None) -> MemoryReceipt:
    """Keep what somebody said of their work with the facts of it; the receipt is for the operation's result.

    Either may be empty. Of a text that is too long for a memory what was said is cut, not the facts.
    """
    receipt = await remember(call, _text(said, facts), category, agent=agent, confidence=FROM_WORK)
    return MemoryReceipt(id=receipt.ref, category=category, delivery=receipt.status)


async def work_to_remember(
    call: Call, category: str, said: str, facts: str, *, agent: str | None = None
) -> tuple[MemoryReceipt, tuple[Any, ...]]:
    """The same for a statement that keeps it together with the work: the receipt, and the values of `keeping`.

    One of the two texts must not be blank.
    """
    new = _new(call, _text(said, facts), category, agent, FROM_WORK)
    receipt, values = await (await _memory(call)).as_values(new)
    return MemoryReceipt(id=receipt.ref, category=category, delivery=receipt.status), values


async def _memory(call: Call) -> BuiltinMemory:
    return BuiltinMemory(call.db, is_queued=await outbox.is_delivering(call), operation=call.operation)


def _new(call: Call, text: str, category: str, agent: str | None, confidence: float) -> NewMemory:
    return NewMemory(text, category, call.caller.kind, call.caller.principal, agent, confidence)


def _text(said: str, facts: str) -> str:
    kept = said.strip()[: max(0, LONGEST - len(facts) - 1)]
    return "\n".join(part for part in (kept, facts) if part)[:LONGEST]
