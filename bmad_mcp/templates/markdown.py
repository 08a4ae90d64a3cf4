"""A template as people read it: each section with its guidance, its shape and its text."""

from collections.abc import Mapping
from typing import Any

from bmad_mcp.templates.blocks import fenced, heading
from bmad_mcp.templates.schemas import TemplateOut

# Guidance is told as a quotation: it is what the template says, not what this server asks for.
_FACTS = (
    ("value", "id"),
    ("kind", "type"),
    ("one of", "choices"),
    ("columns", "columns"),
    ("each begins with", "prefix"),
    ("repeated", "repeatable"),
    ("owner", "owner"),
    ("editors", "editors"),
    ("only if", "condition"),
)


def template_markdown(template: TemplateOut) -> str:
    """Markdown of a template's sections, or its own text."""
    lines = heading(1, template.title)
    if template.filename:
        lines += [f"Makes `{template.filename}`.", ""]
    if template.variables:
        lines += [f"Values: {', '.join(f'`{name}`' for name in template.variables)}", ""]
    for section in template.sections or ():
        lines += _guide(section, 2)
    if template.text:
        lines += fenced(template.text) if template.kind == "document" else [template.text]
    lines += [f"*{template.note}*"] if template.note else []
    return "\n".join(lines).strip() + "\n"


def _guide(section: Mapping[str, Any], level: int) -> list[str]:
    lines = heading(level, str(section.get("title") or section.get("id") or "Section"))
    facts = [f"{label}: {_told(section[name])}" for label, name in _FACTS if section.get(name)]
    if facts:
        lines += [f"*{' · '.join(facts)}*", ""]
    if section.get("instruction"):
        lines += [*(f"> {line}".rstrip() for line in str(section["instruction"]).strip().split("\n")), ""]
    for name in ("content", "template", "item_template"):
        if section.get(name):
            lines += fenced(str(section[name]))
    for name in ("items", "rows", "examples"):
        if isinstance(section.get(name), list) and section[name]:
            lines += [f"{name.capitalize()}:", "", *fenced("\n".join(_told(one).rstrip() for one in section[name]))]
    for inner in section.get("sections") or ():
        if isinstance(inner, Mapping):
            lines += _guide(inner, level + 1)
    return lines


def _told(value: Any) -> str:
    """A fact on one line; an example may have several."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_told(one)}" for name, one in value.items())
    return str(value)
