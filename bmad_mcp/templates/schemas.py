"""What goes out about templates."""

from typing import Any

from bmad_mcp.shapes import Out


class TemplateBrief(Out):
    """A template in one line."""

    name: str
    kind: str
    title: str
    source: str


class TemplatePage(Out):
    """A page of templates."""

    items: list[TemplateBrief]
    next_cursor: str | None


class TemplateOut(TemplateBrief):
    """A template: the file it makes, the values it takes, and its sections or text."""

    filename: str | None = None
    variables: list[str] | None = None
    sections: list[dict[str, Any]] | None = None
    text: str | None = None
    note: str | None = None


class Rendered(Out):
    """A document made from a template; `missing` names the values that it still needs, `unused` those it has no place for."""

    markdown: str
    missing: list[str]
    unused: list[str] | None = None
    filename: str | None = None
