"""What goes out about checklists, and how an item is answered."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bmad_mcp.shapes import Out

Mark = Literal["pass", "fail", "partial", "na"]


def _item(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 1000:
        raise ValueError("must be an item's number, a range such as 3-9, or its text; answer a long item by number")
    return value


class ItemResult(BaseModel):
    """The mark of an item, or of all items of a range."""

    model_config = ConfigDict(extra="forbid")

    item: Annotated[int | str, BeforeValidator(_item), Field(description="Number, range such as 3-9, or text.")]
    mark: Mark
    note: Annotated[str | None, Field(max_length=300)] = None


class RunBrief(Out):
    """A stored run in one line."""

    at: datetime
    subject: str
    gate: str
    score: int
    agent: str | None = None


class ChecklistBrief(Out):
    """A checklist in one line; `items` is their number."""

    name: str
    title: str
    source: str
    items: int
    last_run: RunBrief | None = None


class ChecklistPage(Out):
    """A page of checklists."""

    items: list[ChecklistBrief]
    next_cursor: str | None


class ChecklistSection(Out):
    """A part of a checklist: its items by the number that checklist_run takes."""

    section: str
    items: dict[int, str]


class ChecklistOut(Out):
    """A whole checklist, section by section, and its latest runs, the newest first."""

    name: str
    title: str
    source: str
    sections: list[ChecklistSection]
    runs: list[RunBrief] | None = None


class ItemNotMet(Out):
    """An item that lowers the score; `text` is cut."""

    item: int
    text: str
    note: str | None = None


class ChecklistRun(Out):
    """What a run found; the long lists are cut, and `more` names the numbers of the rest."""

    checklist: str
    subject: str
    gate: Literal["pass", "concerns", "fail"]
    score: int
    counts: dict[str, int]
    failed: list[ItemNotMet]
    partial: list[ItemNotMet] | None = None
    unanswered: list[ItemNotMet] | None = None
    more: str | None = None
