"""Makes a document of a template: sections become headings, names become values, what is missing stays visible."""

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bmad_mcp.errors import Invalid
from bmad_mcp.templates.blocks import LISTS, fenced, has_mark, heading, written_list, written_table
from bmad_mcp.templates.filling import VARIABLE, Filling, is_plain, word

YAML = ("yaml", "yml", "json")
Section = Mapping[str, Any]
Scope = ChainMap[str, Any]


def render(
    title: str, sections: Sequence[Section], values: Mapping[str, Any], form: str = "markdown"
) -> tuple[str, list[str]]:
    """(the document, the names that have no value yet); a form such as `yaml` has no headings."""
    document = _Document(Filling(is_yaml=form in YAML), form)
    scope: Scope = ChainMap(dict(values))
    lines = heading(1, document.filling.text(title, scope)) if title and document.is_markdown else []
    for section in sections:
        lines += document.section(section, 2 if title else 1, scope)
    return _tidy("\n".join(lines)), list(document.filling.missing)


def names_in(template: Any) -> set[str]:
    """Every name that a template takes a value for: those in its texts, and the ids of its sections."""
    if isinstance(template, str):
        return set(VARIABLE.findall(template))
    if isinstance(template, Mapping):
        return {str(template.get("id"))}.union(*map(names_in, template.values()))
    return set[str]().union(*map(names_in, template)) if isinstance(template, list) else set()


def render_text(text: str, values: Mapping[str, Any], form: str = "markdown") -> tuple[str, list[str]]:
    """The same for a template that is one text."""
    filling = Filling(is_yaml=form in YAML)
    # What a YAML template says about itself is no part of the file it makes.
    body = re.sub(r"(?m)^template:[^\n]*\n(?:[ \t][^\n]*\n|\n)*", "", text, count=1) if form in YAML else text
    return _tidy(filling.text(body, dict(values))), list(filling.missing)


def render_path(path: str, values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(a file's path with its names replaced, the names that have no value yet); a value stays within its folder."""
    filling = Filling()
    safe = {name: re.sub(r"[/\\\x00-\x1f]+", "-", word(value)) for name, value in values.items() if value is not None}
    return filling.text(path, safe), list(filling.missing)


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


class _Document:
    """One document while it is made."""

    def __init__(self, filling: Filling, form: str) -> None:
        self.filling = filling
        self.is_markdown = form not in YAML

    def section(self, section: Section, level: int, scope: Scope) -> list[str]:
        """The lines of a section; the value `false` for its id leaves it out."""
        own = _own(section, scope)
        if own is False:
            return []
        title = str(section.get("title") or "") if self.is_markdown else ""
        head = self._condition(section, scope)
        if not (section.get("repeatable") and isinstance(own, list) and section.get("type") not in LISTS):
            inner = scope.new_child(own) if isinstance(own, dict) else scope
            return [*self._title(title, level, inner), *head, *self._body(section, level + bool(title), inner)]
        # A title that names something is written for each; another one stands above them all.
        names_each = VARIABLE.search(title) is not None
        lines = head if names_each else [*self._title(title, level, scope), *head]
        for item in own:
            inner = _of_item(section, item, scope)
            lines += self._title(title, level, inner) if names_each else []
            lines += self._body(section, level + bool(title), inner)
        return lines

    def _title(self, title: str, level: int, scope: Scope) -> list[str]:
        return heading(level, self.filling.text(title, scope)) if title else []

    def _condition(self, section: Section, scope: Scope) -> list[str]:
        if not section.get("condition") or not self.is_markdown:
            return []
        return [f"*Only if: {self.filling.text(section['condition'], scope)}*", ""]

    def _body(self, section: Section, level: int, scope: Scope) -> list[str]:
        lines = self._content(section, scope)
        for inner in section.get("sections") or ():
            if isinstance(inner, Mapping):
                lines += self.section(inner, level, scope)
        return lines

    def _content(self, section: Section, scope: Scope) -> list[str]:
        lines = self._lines(section, scope)
        self.filling.sized("\n".join(lines))
        return lines

    def _lines(self, section: Section, scope: Scope) -> list[str]:
        own = _own(section, scope)
        lines = [self.filling.text(section["content"], scope).rstrip(), ""] if section.get("content") else []
        # A template that uses the section's own id as a name takes the value there.
        template = str(section.get("template") or "")
        if isinstance(own, dict) or str(section.get("id")) in VARIABLE.findall(template):
            own = None
        match section.get("type"):
            case "table":
                return lines + self._table(section, own, template, scope)
            case "bullet-list" | "numbered-list" | "checklist" as kind:
                items = self._items(section, own, template, scope)
                if isinstance(items, str):
                    return [*lines, items, ""]
                return lines + written_list(kind, items, self.filling.text(section.get("prefix") or "", scope))
            case "code" | "mermaid" as kind:
                return lines + self._code(section, own, template, scope, kind)
            case "choice":
                return lines + self._choice(section, own, template, scope)
        if own is not None:
            return [*lines, *_paragraph(own)]
        text = self.filling.text(template, scope) if template else self._blank(section)
        return [*lines, text.rstrip(), ""] if text.strip() else lines

    def _blank(self, section: Section) -> str:
        """Stands for a section that nothing but a value can fill."""
        filled = ("sections", "content", "items", "rows", "template")
        if not section.get("id") or any(section.get(name) for name in filled):
            return ""
        return self.filling.placeholder(str(section["id"]))

    def _items(self, section: Section, own: Any, template: str, scope: Scope) -> list[str] | str:
        """The items of a list; one text when its lines carry their marks already."""
        pattern = str(section.get("item_template") or template)
        if own is None and (named := VARIABLE.fullmatch(template.strip())):
            own = scope.get(named[1])
        if isinstance(own, list):
            return [
                self.filling.text(pattern, scope.new_child(item)) if isinstance(item, dict) and pattern else word(item)
                for item in own
            ]
        if own is not None:
            return _listed(word(own))
        if section.get("items"):
            return [self.filling.text(_item_text(item), scope) for item in section["items"]]
        if section.get("item_template") or (template and section.get("repeatable")):
            return [self.filling.text(pattern, scope)]
        return _listed(self.filling.text(template, scope) if template else self._blank(section))

    def _table(self, section: Section, own: Any, template: str, scope: Scope) -> list[str]:
        columns = [self.filling.text(column, scope) for column in section.get("columns") or ()]
        if isinstance(own, list) and own and isinstance(own[0], dict) and not columns:
            if template:
                return [*self._rows_of_template(section, template, own, scope), ""]
            columns = list(own[0])
        if isinstance(own, list) and columns:
            return written_table(columns, [_cells(section, columns, row) for row in own])
        if own is not None:
            return _paragraph(own)
        if template or not columns:
            text = self.filling.text(template, scope) if template else self._blank(section)
            return [text.rstrip(), ""] if text else []
        rows = [row for row in section.get("rows") or () if isinstance(row, list)]
        filled = [[self.filling.text(cell, scope) for cell in row] for row in rows]
        return written_table(columns, filled or [[self._blank(section)]])

    def _rows_of_template(self, section: Section, template: str, rows: list[Any], scope: Scope) -> Iterator[str]:
        if not all(isinstance(row, dict) for row in rows):
            field = f"values.{section.get('id')}"
            raise Invalid(f"`{field}` has a row that is no map of names to values, as the others are.", field=field)
        lines = template.rstrip().split("\n")
        for line in lines:
            if VARIABLE.search(line) is None:
                yield line
            else:
                yield from (self.filling.text(line, scope.new_child(dict(row))).replace("\n", "<br>") for row in rows)

    def _code(self, section: Section, own: Any, template: str, scope: Scope, kind: str) -> list[str]:
        language = "mermaid" if kind == "mermaid" else str(section.get("language") or "")
        in_yaml = language in YAML or self.filling.is_yaml
        if own is not None:
            text = "\n".join(map(word, own)) if isinstance(own, list) and is_plain(own) else word(own)
        else:
            text = self.filling.text(template, scope, is_yaml=in_yaml) if template else self._blank(section)
        if not text:
            return []
        return fenced(text, language) if self.is_markdown else [text.rstrip(), ""]

    def _choice(self, section: Section, own: Any, template: str, scope: Scope) -> list[str]:
        choices = [word(choice) for choice in section.get("choices") or ()]
        if own is None and VARIABLE.fullmatch(template.strip()):
            own = _own(section, scope) if str(section.get("id")) in VARIABLE.findall(template) else None
        if own in (None, ""):
            text = self.filling.text(template, scope) if template else self._blank(section)
            return [f"{text.rstrip()} ({' | '.join(choices)})" if VARIABLE.search(text) else text.rstrip(), ""]
        chosen = next((choice for choice in choices if choice.lower() == word(own).strip().lower()), None)
        if chosen is None and choices:
            raise Invalid(
                f"`values.{section['id']}` must be one of: {', '.join(choices)}.", field=f"values.{section['id']}"
            )
        return [chosen or word(own), ""]


def _own(section: Section, scope: Scope) -> Any:
    """The value that was given for the section by its id."""
    return scope.get(str(section["id"])) if section.get("id") else None


def _of_item(section: Section, item: Any, scope: Scope) -> Scope:
    """What the names mean in one repetition; its own id is free again for the item to use."""
    name = str(section["id"])
    # Without a text of its own there is nothing left to ask for: the item is in the title and in the sections below.
    free = None if section.get("template") else ""
    return scope.new_child({name: free, **item} if isinstance(item, dict) else {name: item})


def _paragraph(value: Any) -> list[str]:
    if isinstance(value, list) and is_plain(value):
        return written_list("bullet-list", list(map(word, value)))
    return [word(value).rstrip(), ""]


def _item_text(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    for name in ("template", "text", "title"):
        if item.get(name):
            return str(item[name])
    # YAML takes `Standards [[LLM: …]]` for a map.
    return "; ".join(f"{name}: {told}" for name, told in item.items())


def _listed(text: str) -> list[str] | str:
    """The items of a text, one a line; the text itself when its lines carry their marks already."""
    lines = [line for line in text.rstrip().split("\n") if line.strip()]
    return "\n".join(lines) if lines and all(map(has_mark, lines)) else lines


def _cells(section: Section, columns: Sequence[str], row: Any) -> list[str]:
    """The cells of a row given as a list or by the columns' names; raises Invalid rather than lose one."""
    field = f"values.{section.get('id')}"
    if isinstance(row, dict):
        spoken = {column.lower(): column for column in columns}
        given = {spoken.get(str(name).lower(), str(name)): word(value) for name, value in row.items()}
        if unknown := sorted(set(given) - set(columns)):
            raise Invalid(f"`{field}` has no column {unknown[0]!r}; there are: {', '.join(columns)}.", field=field)
        return [given.get(column, "") for column in columns]
    cells = [word(cell) for cell in row] if isinstance(row, list) else [word(row)]
    if len(cells) > len(columns):
        raise Invalid(f"`{field}` has a row of {len(cells)} cells for {len(columns)} columns.", field=field)
    return cells
