"""What goes out about checklists."""

from bmad_mcp.shapes import Out


class ChecklistBrief(Out):
    """A checklist in one line; `items` is their number."""

    name: str
    title: str
    source: str
    items: int


class ChecklistPage(Out):
    """A page of checklists."""

    items: list[ChecklistBrief]
    next_cursor: str | None


class ChecklistSection(Out):
    """A part of a checklist."""

    section: str
    items: list[str]


class ChecklistOut(Out):
    """A whole checklist, section by section."""

    name: str
    title: str
    source: str
    sections: list[ChecklistSection]
