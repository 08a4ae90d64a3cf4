"""What goes out about epics and stories."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bmad_mcp.shapes import Out
from bmad_mcp.stories.sections import TOP_LEVEL

GateWord = Literal["PASS", "CONCERNS", "FAIL", "WAIVED"]


class GateIssue(BaseModel):
    """A finding of a review."""

    model_config = ConfigDict(extra="forbid")

    severity: Literal["low", "medium", "high"]
    finding: Annotated[str, Field(min_length=1, max_length=600)]
    suggested_action: Annotated[str, Field(max_length=600)] = ""
    id: Annotated[
        str | None,
        Field(max_length=40, description="SEC, PERF, REL, TEST, MNT, ARCH, DOC or REQ, with -001 or without."),
    ] = None


class StoryBrief(Out):
    """A story in one line; `tasks` is done/all."""

    key: str
    title: str
    status: str
    points: int | None = None
    tasks: str | None = None


class StoryPage(Out):
    """A page of stories."""

    items: list[StoryBrief]
    next_cursor: str | None


class StoryState(Out):
    """What a change needs to know of a story."""

    key: str
    title: str
    status: str
    version: int


class EpicState(Out):
    """An epic's key and status."""

    key: str
    status: str


class OpenTask(Out):
    """A task that is still open behind its story."""

    key: str
    status: str
    held_by: str | None = None


class StoryChange(Out):
    """The story after the change, and the section and the epic that changed with it.

    `open_tasks`: what is still open where a story comes to review, done or cancelled; `next` says what to do about it.
    """

    story: StoryState
    section: str | None = None
    epic: EpicState | None = None
    open_tasks: list[OpenTask] | None = None
    next: str | None = None


class SectionOut(Out):
    """A section: its heading, the heading's level where it is not 2, and the text under it."""

    name: str
    level: int = TOP_LEVEL
    text: str = ""


class StoryTask(Out):
    """A task of a story in one line."""

    key: str
    title: str
    status: str
    agent: str | None = None
    held_by: str | None = None
    ready: bool | None = None


class StoryOut(Out):
    """A whole story; its sections without text are left out, as is what they say already (role, want and benefit).

    `file_status` and `tracker_status` are the words that the imported files use.
    """

    key: str
    title: str
    status: str
    version: int
    epic: str
    epic_title: str | None = None
    priority: str
    points: int | None = None
    role: str | None = None
    want: str | None = None
    benefit: str | None = None
    acceptance: list[str]
    sections: list[SectionOut]
    tasks: list[StoryTask]
    gate: dict[str, Any] | None = None
    file: str | None = None
    file_status: str | None = None
    tracker_status: str | None = None
    updated_at: datetime
    completed_at: datetime | None = None


class StoryInHand(StoryState):
    """The story to work on."""

    epic: str | None = None
    epic_title: str | None = None
    priority: str | None = None
    points: int | None = None
    gate: str | None = None
    tasks: str | None = None


class StoryContext(Out):
    """What one must know to work on the story; long texts are cut."""

    story: str | None = None
    acceptance: list[str] | None = None
    notes: str | None = None
    plan: str | None = None
    dev_record: str | None = None
    qa_results: str | None = None
    more: str | None = None


class StoryNext(Out):
    """The story to work on now, why this one, and what to call next."""

    story: StoryInHand | None
    why: str
    context: StoryContext | None = None
    tasks: list[StoryTask] | None = None
    next: str


class EpicBrief(Out):
    """An epic in one line, with its stories counted by status."""

    key: str
    title: str
    status: str
    stories: dict[str, int] | None = None


class EpicPage(Out):
    """A page of epics."""

    items: list[EpicBrief]
    next_cursor: str | None


class EpicMade(EpicState):
    """A new epic."""

    title: str
    goal: str | None = None
    version: int


class EpicCreated(Out):
    """The epic that was made."""

    epic: EpicMade


class EpicOut(EpicMade):
    """An epic with its stories."""

    file: str | None = None
    stories: list[StoryBrief]
    more: str | None = None


class GateKey(Out):
    """The story of a gate."""

    key: str
    status: str
    version: int


class GateBrief(Out):
    """A gate as it was recorded; `ids` are those of its issues, in their order."""

    gate: str
    score: int
    reviewer: str
    updated: datetime
    ids: list[str] | None = None


class GateChange(Out):
    """The story after its gate was recorded, and what to call next."""

    story: GateKey
    gate: GateBrief
    next: str


class GateOut(Out):
    """A story's gate, what was found, and the gates before it, the oldest first."""

    story: GateKey
    gate: dict[str, Any] | None
    issues: list[dict[str, Any]] | None = None
    history: list[dict[str, Any] | str] | None = None
    required: bool
    next: str
