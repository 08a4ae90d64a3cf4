"""Changes single keys of a YAML text and leaves every other byte of it alone: comments, order, quotes, line ends."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bmad_mcp.bmad_files.yaml_guard import YamlRefused, parse_yaml

WIDTH = 110
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\\\]|\\\\.)*\"""")
# YAML ends a line at these too.
_OTHER_BREAK = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
# The end of the one document that is read.
_MARKER = re.compile(r"(?:---|\.\.\.)(?:\s|$)")


class NotEdited(Exception):
    """The text has a form in which the key cannot be changed alone; the message says which."""


def scalar(value: Any) -> str:
    """A value as YAML on one line, quoted where it must be."""
    text = yaml.safe_dump(value, allow_unicode=True, width=1_000_000, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n")


def block(key: str, value: Any, line_end: str = "\n") -> str:
    """A key with its value, a list or a map over several lines, as BMad's own tools write them."""
    text = yaml.dump(
        {key: value}, Dumper=_Indented, allow_unicode=True, width=WIDTH, sort_keys=False, default_flow_style=False
    )
    return text.replace("\n", line_end)


class _Indented(yaml.SafeDumper):
    """Indents the items of a list under their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


Changes = Mapping[tuple[str, ...], Any]


def set_values(text: str, changes: Changes) -> str:
    """The text with the values of keys of the first or second level changed.

    Raises NotEdited when a key is not there, or when the text would not read as wanted afterwards.
    """
    before = _placed(text)
    rows = text.split("\n")
    # From the end, so that the places of the others stay right.
    for path, value in sorted(changes.items(), key=lambda one: before.places.get(one[0], (0, 0, 0)), reverse=True):
        if path not in before.places:
            raise NotEdited(f"the key {'.'.join(path)} is not there")
        _set_one(rows, path, before.places[path], _at(before.value, path), value)
    edited = "\n".join(rows)
    if _parsed(edited).value != _changed(before.value, changes):
        raise NotEdited("the keys stand in a form in which they cannot be changed alone")
    return edited


def _set_one(rows: list[str], path: tuple[str, ...], place: tuple[int, int, int], was: Any, value: Any) -> None:
    line, end, column = place
    if isinstance(was, dict | list) or isinstance(value, dict | list) or end > line:
        if len(path) > 1:
            raise NotEdited(f"{'.'.join(path)} is not a value on one line")
        _set_block(rows, line, path[0], value)
        return
    start = _value_start(rows[line - 1], path[-1])
    tail = rows[line - 1][max(start, column) :]
    if was is None and column <= start:
        # An empty value ends where its key does.
        tail = f" {tail.lstrip()}" if tail.lstrip().startswith("#") else tail
    rows[line - 1] = rows[line - 1][:start] + _like(rows[line - 1][start:], value) + tail


def add_value(text: str, key: str, value: Any) -> str:
    """The text with a new key of the first level at its end."""
    before = _parsed(text)
    if not isinstance(before.value, dict | None) or key in (before.value or {}):
        raise NotEdited(f"{key} cannot be added")
    line_end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else line_end
    added = block(key, value, line_end) if isinstance(value, dict | list) else f"{key}: {scalar(value)}{line_end}"
    edited = text + gap + added
    if _parsed(edited).value != _changed(before.value or {}, {(key,): value}):
        raise NotEdited(f"{key} cannot be added")
    return edited


def add_entries(text: str, parent: str, entries: Mapping[str, str], after: str | None) -> str:
    """The text with new keys under a parent, behind the key `after`, or at the parent's end."""
    before = _placed(text)
    children = [place for place in before.places if len(place) == 2 and place[0] == parent]
    if not children:
        raise NotEdited(f"{parent} has no keys of its own lines")
    behind = (parent, after) if (parent, after) in before.places else children[-1]
    line, end, column = before.places[behind]
    # A block of text ends where the next line begins.
    end -= column == 0 and end > line
    rows = text.split("\n")
    indent = rows[line - 1][: len(rows[line - 1]) - len(rows[line - 1].lstrip())]
    if not indent:
        raise NotEdited(f"the keys of {parent} do not stand on lines of their own")
    line_end = "\r" if rows[line - 1].endswith("\r") else ""
    rows[end:end] = [f"{indent}{key}: {scalar(word)}{line_end}" for key, word in entries.items()]
    edited = "\n".join(rows)
    wanted = {**before.value, parent: {**before.value[parent], **entries}}
    if _parsed(edited).value != wanted:
        raise NotEdited(f"{parent} is not written line by line")
    return edited


def comment_out(text: str, parent: str, key: str, word: str) -> str:
    """The text with a key under a parent turned into a comment that tells the word."""
    before = _placed(text)
    if (parent, key) not in before.places:
        raise NotEdited(f"the key {key} is not there")
    line, end, _ = before.places[parent, key]
    if end != line:
        raise NotEdited(f"the value of {key} goes over several lines")
    rows = text.split("\n")
    row = set_values(text, {(parent, key): word}).split("\n")[line - 1]
    indent = row[: len(row) - len(row.lstrip())]
    rows[line - 1] = f"{indent}# {row.lstrip()}"
    edited = "\n".join(rows)
    wanted = {**before.value, parent: {name: one for name, one in before.value[parent].items() if name != key}}
    if (_parsed(edited).value or {}).get(parent) not in (wanted[parent], None):
        raise NotEdited(f"{parent} is not written line by line")
    return edited


def _parsed(text: str) -> Any:
    try:
        return parse_yaml(text, keep_repeated=True)
    except YamlRefused as error:
        raise NotEdited(error.message) from error


def _placed(text: str) -> Any:
    """The parsed text, whose lines are those that a line feed ends."""
    if _OTHER_BREAK.search(text):
        raise NotEdited("a line of it ends with another character than a line feed")
    return _parsed(text)


def _value_start(row: str, key: str) -> int:
    """Where the value of a key begins on its line."""
    name = re.escape(key)
    match = re.match(rf"""[\ufeff \t]*(?:{name}|'{name}'|"{name}")[ \t]*:(?:[ \t]+|(?=\r?$))""", row)
    if match is None:
        raise NotEdited(f"the key {key} does not stand on a line of its own")
    return match.end()


def _like(was: str, value: Any) -> str:
    """The value in the kind of quotes that the old one had."""
    if isinstance(value, str) and "\n" not in value and (match := _QUOTED.match(was)):
        if match[0].startswith("'"):
            return "'" + value.replace("'", "''") + "'"
        if value.isprintable():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    written = scalar(value)
    return written if was and not was.startswith(("\r", "#")) else f" {written}" if not was.strip() else written


def _set_block(rows: list[str], line: int, key: str, value: Any) -> None:
    """Replace the lines of a key of the first level; comments behind it stay."""
    end = next((at for at in range(line, len(rows)) if _begins_key(rows[at])), len(rows))
    while end > line and (not rows[end - 1].strip() or rows[end - 1].lstrip().startswith("#")):
        end -= 1
    line_end = "\r" if rows[line - 1].endswith("\r") else ""
    is_long = isinstance(value, dict | list) and bool(value)
    written = block(key, value).removesuffix("\n").split("\n") if is_long else [f"{key}: {scalar(value)}"]
    rows[line - 1 : end] = [one + line_end for one in written]


def _begins_key(row: str) -> bool:
    if _MARKER.match(row):
        return True
    return bool(row.strip()) and not row[0].isspace() and not row.startswith(("#", "-", "]", "}"))


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(before: Any, changes: Changes) -> Any:
    """What the text should say after the changes."""
    wanted = dict(before)
    for path, value in changes.items():
        if len(path) == 1:
            wanted[path[0]] = told(value)
        else:
            wanted[path[0]] = {**wanted[path[0]], path[1]: told(value)}
    return wanted


def read(text: str) -> dict[str, Any]:
    """What the text says, as keys and values; raises NotEdited when it is something else."""
    value = _parsed(text).value
    if not isinstance(value, dict):
        raise NotEdited("it is no list of keys and values")
    return value


def told(value: Any) -> Any:
    """The value as the guard reads it: numbers with a point are words."""
    if isinstance(value, dict):
        return {str(key): told(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [told(one) for one in value]
    return str(value) if isinstance(value, float) else value
