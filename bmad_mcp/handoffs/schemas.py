"""What goes out about handoffs."""

from datetime import datetime

from pydantic import Field

from bmad_mcp.memory.schemas import MemoryFound, MemoryReceipt
from bmad_mcp.shapes import Aliased, Out


class HandoffBrief(Aliased):
    """A handoff in one line; its note is cut. `is_over`: nobody took it up, and its task or story has ended since."""

    key: str
    status: str
    from_agent: str = Field(alias="from")
    to: str
    task: str | None = None
    story: str | None = None
    is_over: bool | None = None
    note: str


class HandoffOut(HandoffBrief):
    """Work handed from one agent to another."""

    created_at: datetime
    accepted_by: str | None = None
    accepted_at: datetime | None = None


class Offer(Out):
    """An offered handoff, what is known of earlier ones like it, and who should take it up."""

    handoff: HandoffOut
    memory: MemoryFound
    next: str


class HandedTask(Out):
    """The task as the handoff left it."""

    key: str
    status: str
    agent: str


class Acceptance(Out):
    """An accepted handoff, its task, where it is remembered, and what to call next."""

    handoff: HandoffOut
    task: HandedTask | None = None
    memory: MemoryReceipt
    next: str


class HandoffPage(Out):
    """A page of handoffs, newest first."""

    items: list[HandoffBrief]
    next_cursor: str | None
