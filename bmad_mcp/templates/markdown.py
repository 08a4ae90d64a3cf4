"""Makes documents of templates: sections become headings, `{{names}}` become values, what is missing stays visible."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bmad_mcp.templates.schemas import TemplateOut

VARIABLE = re.compile(r"\{\{\s*([\w.-]{1,80})\s*\}\}")
MAX_LEVEL = 6


class Rendering:
    """One document while it is made."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.missing: list[str] = []

    def fill(self, text: str, local: Mapping[str, Any]) -> str:
        """The text with its names replaced once; a value is data and is not searched for names again."""

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            value = local.get(name, self.values.get(name))
            if value is None or isinstance(value, dict | list):
                if name not in self.missing:
                    self.missing.append(name)
                return f"{{{{{name}}}}}"
            return str(value)

        return VARIABLE.sub(replaced, text)

    def section(self, section: Mapping[str, Any], level: int, local: Mapping[str, Any]) -> list[str]:
        """The lines of a section; a repeatable one is written for each item of the list under its id."""
        name = str(section.get("id"))
        items = local.get(name, self.values.get(name))
        if section.get("repeatable") and isinstance(items, list):
            lines = []
            for item in items:
                lines += self._once(section, level, {**local, **(item if isinstance(item, dict) else {"item": item})})
            return lines
        return self._once(section, level, local)

    def _once(self, section: Mapping[str, Any], level: int, local: Mapping[str, Any]) -> list[str]:
        lines = []
        title = self.fill(str(section.get("title") or ""), local)
        if title:
            lines += [f"{'#' * min(level, MAX_LEVEL)} {title}", ""]
        if section.get("condition"):
            lines += [f"*Only if: {section['condition']}*", ""]
        lines += self._content(section, local)
        for inner in section.get("sections") or ():
            if isinstance(inner, Mapping):
                lines += self.section(inner, level + (1 if title else 0), local)
        return lines

    def _content(self, section: Mapping[str, Any], local: Mapping[str, Any]) -> list[str]:
        name = str(section.get("id") or "")
        given = local.get(name, self.values.get(name))
        kind = str(section.get("type") or "")
        if kind == "table":
            return _table(section.get("columns"), given if isinstance(given, list) else section.get("rows"))
        if kind in ("bullet-list", "numbered-list", "checklist") and isinstance(given, list):
            return _list(kind, [str(item) for item in given])
        # What was given for the whole section needs none of the values inside it.
        text = given if isinstance(given, str) else str(section.get("template") or section.get("content") or "")
        text = text if isinstance(given, str) else self.fill(text, local)
        if kind in ("bullet-list", "numbered-list", "checklist"):
            return _list(kind, [self.fill(str(item), local) for item in section.get("items") or _lines(text)])
        if kind in ("code", "mermaid"):
            language = "mermaid" if kind == "mermaid" else str(section.get("language") or "")
            return [f"```{language}", text.rstrip(), "```", ""] if text else []
        if kind == "choice":
            choices = " | ".join(str(choice) for choice in section.get("choices") or ())
            return [f"{text} ({choices})" if VARIABLE.search(text) else text or choices, ""]
        return [text.rstrip(), ""] if text else []


def _lines(value: Any) -> list[str]:
    return [line.strip().lstrip("-* ").strip() for line in str(value or "").split("\n") if line.strip()]


def _list(kind: str, items: Sequence[str]) -> list[str]:
    marks = {"bullet-list": "-", "checklist": "- [ ]"}
    lines = [f"{marks.get(kind, f'{number}.')} {item}" for number, item in enumerate(items, start=1)]
    return [*lines, ""] if lines else []


def _table(columns: Any, rows: Any) -> list[str]:
    names = [str(column) for column in columns or ()]
    if not names:
        return []
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows or ():
        cells = [row.get(name, "") for name in names] if isinstance(row, Mapping) else row
        if isinstance(cells, list):
            escaped = [str(cell).replace("|", "\\|") for cell in cells]
            lines.append(f"| {' | '.join(escaped)} |")
    return [*lines, ""]


def render(title: str, sections: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(Markdown, the names that have no value yet)."""
    rendering = Rendering(values)
    lines = [f"# {rendering.fill(title, {})}", ""] if title else []
    for section in sections:
        lines += rendering.section(section, 2 if title else 1, {})
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
    return text, rendering.missing


def template_markdown(template: TemplateOut) -> str:
    """A template as people read it: each section with its guidance."""
    lines = [f"# {template.title}", ""]
    if template.variables:
        lines += [f"Values: {', '.join(f'`{name}`' for name in template.variables)}", ""]
    for section in template.sections or ():
        lines += _guide(section, 2)
    if template.text and not template.sections:
        lines += [template.text]
    return "\n".join(lines).strip() + "\n"


def _guide(section: Mapping[str, Any], level: int) -> list[str]:
    lines = [f"{'#' * min(level, MAX_LEVEL)} {section.get('title') or section.get('id') or 'Section'}", ""]
    facts = [
        f"{label}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for label, value in (
            ("kind", section.get("type")),
            ("owner", section.get("owner")),
            ("editors", section.get("editors")),
            ("only if", section.get("condition")),
        )
        if value
    ]
    if facts:
        lines += [f"*{' · '.join(facts)}*", ""]
    if section.get("instruction"):
        lines += [*(f"> {line}" for line in str(section["instruction"]).strip().split("\n")), ""]
    if section.get("template"):
        lines += ["```", str(section["template"]).rstrip(), "```", ""]
    for inner in section.get("sections") or ():
        if isinstance(inner, Mapping):
            lines += _guide(inner, level + 1)
    return lines
