"""What goes out about artifacts."""

from datetime import datetime

from bmad_mcp.shapes import Out


class ArtifactBrief(Out):
    """An artifact in one line; 0 bytes = only its path or title is known."""

    key: str
    kind: str
    title: str
    path: str | None = None
    source: str
    bytes: int


class ArtifactPage(Out):
    """A page of artifacts."""

    items: list[ArtifactBrief]
    next_cursor: str | None


class ArtifactOut(ArtifactBrief):
    """An artifact with its content, or a part of it; `note` says what is not shown as it is."""

    version: int
    updated_at: datetime
    encoding: str
    generation: str | None = None
    agent: str | None = None
    story: str | None = None
    task: str | None = None
    workflow: str | None = None
    note: str | None = None
    content: str | None = None


class ArtifactAnswer(Out):
    """The artifact that was recorded."""

    artifact: ArtifactBrief
