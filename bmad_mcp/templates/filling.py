"""Puts values in the place of `{{names}}`; a value is data and is not searched for names again."""

import json
import re
from collections.abc import Mapping
from typing import Any

from bmad_mcp.errors import Invalid
from bmad_mcp.templates.blocks import indented

VARIABLE = re.compile(r"\{\{\s*([\w.-]{1,80})\s*\}\}")
_ALONE = re.compile(r"(\s*(?:[-*+]\s+(?:\[.\]\s+)?)?)\{\{\s*([\w.-]{1,80})\s*\}\}\s*")
_MARGIN = re.compile(r"\s*(?:[-*+]\s+|\d{1,4}[.)]\s+|>\s?)?")
_PLAIN_YAML = re.compile(r"(?:\w|-\d)(?:[\w ./+()-]*[\w./+()-])?")
OUTPUT_CAP = 2_000_000

Scope = Mapping[str, Any]


class Filling:
    """Fills the texts of one document and remembers the names that have no value."""

    def __init__(self, *, is_yaml: bool = False) -> None:
        self.is_yaml = is_yaml
        self.missing: dict[str, None] = {}
        self._size = 0

    def text(self, template: Any, scope: Scope, *, is_yaml: bool | None = None) -> str:
        """The template with its names replaced, line by line; a list that stands alone on a line becomes lines."""
        in_yaml = self.is_yaml if is_yaml is None else is_yaml
        lines = without_guidance(str(template)).split("\n")
        return "\n".join(self._line(line, scope, in_yaml) for line in lines)

    def placeholder(self, name: str) -> str:
        """What stands where a value is missing."""
        self.missing[name] = None
        return f"{{{{{name}}}}}"

    def _line(self, line: str, scope: Scope, in_yaml: bool) -> str:
        alone = None if in_yaml else _ALONE.fullmatch(line)
        if alone and isinstance(values := scope.get(alone[2]), list) and is_plain(values):
            mark = alone[1] if alone[1].strip() else alone[1] + "- "
            return self.sized("\n".join(mark + indented(word(value), len(mark)) for value in values))
        margin = 0 if in_yaml else len(_MARGIN.match(line)[0])  # type: ignore[index]

        def replaced(match: re.Match[str]) -> str:
            value = scope.get(match[1])
            if value is None:
                return self.placeholder(match[1])
            if in_yaml:
                return yaml_word(value, is_quoted=line[: match.start()].count('"') % 2 == 1)
            return indented(word(value), margin)

        return self.sized(VARIABLE.sub(replaced, line))

    def sized(self, text: str) -> str:
        """The text, counted: a value that is used many times must not fill the memory."""
        self._size += len(text)
        if self._size > OUTPUT_CAP:
            raise Invalid(
                f"The document would be over {OUTPUT_CAP // 2:,} characters. Make it in parts.", field="values"
            )
        return text


def without_guidance(text: str) -> str:
    """The text without `[[LLM: …]]`: instructions to whoever fills the template are no part of the document."""
    kept, rest = "", text
    while (start := rest.find("[[LLM:")) >= 0 and (end := rest.find("]]", start)) >= 0:
        kept, rest = kept + rest[:start].rstrip(" \t"), rest[end + 2 :]
    return kept + rest


def is_plain(values: list[Any]) -> bool:
    """Whether a list holds nothing but texts, numbers and the like."""
    return not any(isinstance(value, dict | list) for value in values)


def word(value: Any) -> str:
    """A value as people write it: a list with commas, a map as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and is_plain(value):
        return ", ".join(map(word, value))
    return json.dumps(value, ensure_ascii=False)


def yaml_word(value: Any, *, is_quoted: bool) -> str:
    """A value so that the YAML around it stays what it is; a text that is JSON already is taken as that."""
    if is_quoted:
        return json.dumps(value if isinstance(value, str) else word(value), ensure_ascii=False)[1:-1]
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if _is_json(value):
        return value
    return value if _PLAIN_YAML.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _is_json(text: str) -> bool:
    if "\n" in text:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
