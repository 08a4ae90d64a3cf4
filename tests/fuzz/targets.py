"""What the fuzzer calls with any bytes: each raises nothing but the refusals that its callers expect."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from yaml import CSafeLoader, MappingNode, Node, ScalarNode, compose_all
from yaml.composer import ComposerError

from bmad_mcp import sample
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.writing import yaml_edit as editing
from bmad_mcp.bmad_files.yaml_guard import Loaded, YamlRefused, parse_yaml
from bmad_mcp.errors import Invalid
from bmad_mcp.server.messages import UnusableMessage, read_message
from bmad_mcp.server.stdio import lines
from bmad_mcp.shapes import decode_cursor

# Where a byte of the input puts the rest: each is a file that another part of the reader reads.
PLACES = (
    "docs/stories/1.1.first.md",
    "docs/prd/epic-1-first.md",
    "docs/prd.md",
    "docs/qa/gates/1.1-first.yml",
    ".bmad-core/core-config.yaml",
    ".bmad-core/agents/dev.md",
    ".bmad-core/workflows/greenfield-ui.yaml",
    ".bmad-core/templates/story-tmpl.yaml",
    ".bmad-core/checklists/story-dod-checklist.md",
    "_bmad/config.toml",
    "_bmad/bmm/config.yaml",
    "_bmad-output/implementation-artifacts/sprint-status.yaml",
    "_bmad-output/implementation-artifacts/1-1-first.md",
    "_bmad-output/implementation-artifacts/spec-one.md",
    "_bmad-output/planning-artifacts/epics.md",
    "initiative-1/epic-1/tickets.toml",
)


def framing(data: bytes) -> None:
    """One line of stdio, or one body of HTTP."""
    with suppress(UnusableMessage):
        read_message(data)
        return
    with pytest.raises(UnusableMessage) as unusable:
        read_message(data)
    assert json.loads(unusable.value.reply())["error"]["code"] < 0


def stdio(data: bytes) -> None:
    """A stream, cut into lines wherever the pipe is."""

    async def read() -> list[bytes | UnusableMessage]:
        source, sink = os.pipe()
        try:
            os.write(sink, data[:60_000])
            os.close(sink)
            return [line async for line in lines(source)]
        finally:
            os.close(source)

    found = asyncio.run(read())
    assert found == [line for line in data[:60_000].split(b"\n") if line.strip()]


def yaml(data: bytes) -> None:
    """A YAML file of somebody else."""
    with suppress(YamlRefused):
        parse_yaml(data.decode("utf-8", "replace"))


EDITED = b"""# why: so
one: 'x'  # a remark
two:
  # 1-1 comes first
  1-1-a: done
  "1-2-b": "in review" # soon

  1-3-c: |
    block
three: [a,
  b]
four:
- x
# behind
five: ~
"""
# A value is one of these, or a piece of the input.
VALUES: tuple[Any, ...] = (
    None, True, 0, -7, "", "done", "it's", 'say "x"', "a: b", "# no", "- x", "~", "1.10", "no", "two\nlines", " edge ",
    "\x85", "\ufeff", "\u2028", "{a}", "&c", "*d", "!e", "|", [], {}, ["a", "b: c"], {"k": "v", "n": ["x"]},
)  # fmt: skip


def yaml_edit(data: bytes) -> None:
    """An edit of a YAML file of somebody else: what it says is as wanted, and nothing else of it is another byte."""
    if len(data) < 4:
        return
    rest = data[4:].decode("utf-8", "replace")
    own = data[2] - len(VALUES)
    value = VALUES[data[2]] if own < 0 else rest[: own % 40]
    text = rest[max(0, own) % 40 :]
    try:
        before = parse_yaml(text, keep_repeated=True)
    except YamlRefused:
        return
    at = data[1]
    with suppress(editing.NotEdited):
        EDITS[data[0] % len(EDITS)](text, before, at, value, f"key-{data[3]}")


def _set(text: str, before: Loaded, at: int, value: Any, _: str) -> None:
    paths = sorted(before.places)
    if not paths:
        return
    path = paths[at % len(paths)]
    edited = editing.set_values(text, {path: value})
    below = {path[-1]: value}
    _says(edited, before.value | (below if len(path) == 1 else {path[0]: before.value[path[0]] | below}))
    try:
        begin, end = _place(text, path, isinstance(value, list | dict))
    except ComposerError:
        # PyYAML finds no places where two anchors have one name.
        return
    assert edited.startswith(text[:begin]), "what stands before it is another"
    assert edited[begin:].endswith(text[end:]), "what stands behind it is another"


def _add(text: str, before: Loaded, _: int, value: Any, name: str) -> None:
    edited = editing.add_value(text, name, value)
    _says(edited, (before.value or {}) | {name: value})
    assert edited.startswith(text)


def _add_below(text: str, before: Loaded, at: int, value: Any, name: str) -> None:
    paths = [path for path in sorted(before.places) if len(path) == 2]
    if not paths or isinstance(value, list | dict):
        return
    parent, after = paths[at % len(paths)]
    edited = editing.add_entries(text, parent, {name: value}, after)
    _says(edited, before.value | {parent: before.value[parent] | {name: value}})
    row = edited.split("\n")
    added = next(one for one in range(len(row)) if name in row[one])
    longer = len(row) - len(text.split("\n"))
    assert row[:added] + row[added + longer :] == text.split("\n"), "a line that was there is another"


def _comment_out(text: str, before: Loaded, at: int, _: Any, __: str) -> None:
    paths = [path for path in sorted(before.places) if len(path) == 2]
    if not paths:
        return
    parent, key = paths[at % len(paths)]
    edited = editing.comment_out(text, parent, key, "cancelled")
    left = {name: one for name, one in before.value[parent].items() if name != key}
    _says(edited, before.value | {parent: left or None})
    old, new = text.split("\n"), edited.split("\n")
    assert len(old) == len(new)
    assert sum(one != other for one, other in zip(old, new, strict=True)) == 1


EDITS = (_set, _add, _add_below, _comment_out)


def _says(text: str, wanted: dict[str, Any]) -> None:
    # As JSON, so that 1 is not taken for true.
    said = parse_yaml(text, keep_repeated=True).value
    assert json.dumps(said, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _place(text: str, path: tuple[str, ...], is_long: bool) -> tuple[int, int]:
    """Where an edit of a key may change characters: at its value, or in the lines of a list or a mapping."""
    gone = len(text) - len(text.removeprefix("\ufeff"))
    node: Node | None = next(iter(compose_all(text[gone:], Loader=CSafeLoader)))
    for name in path:
        assert isinstance(node, MappingNode)
        key, node = [pair for pair in node.value if pair[0].value == name][-1]
    assert node is not None
    begin, end = (gone + mark.index for mark in (node.start_mark, node.end_mark))
    if isinstance(node, ScalarNode) and key.start_mark.line == node.end_mark.line and not is_long:
        if begin == end:
            # Blanks between the key and a comment may be others.
            begin, end = gone + key.end_mark.index + 1, begin + len(text[begin:]) - len(text[begin:].lstrip(" \t"))
        return begin, end
    begin = text.rfind("\n", 0, gone + key.start_mark.index) + 1
    last = gone + max(_ends(node), default=node.start_mark.index)
    return begin, last if text[last - 1] == "\n" else (text + "\n").index("\n", last)


def _ends(node: Node) -> list[int]:
    """Where what a value holds ends: a block reaches over the comments behind it, its last scalar does not."""
    if isinstance(node, ScalarNode) or node.flow_style:
        return [node.end_mark.index]
    parts = [part for one in node.value for part in (one if isinstance(one, tuple) else (one,))]
    return [end for part in parts for end in _ends(part)]


def cursor(data: bytes) -> None:
    """The cursor of a list."""
    for types in ((int,), (str, int), (float, str)):
        with suppress(Invalid):
            decode_cursor(data.decode("latin-1"), *types)


def project(data: bytes) -> None:
    """A project in which one file is anything."""
    if not data:
        return
    place = PROJECT / PLACES[data[0] % len(PLACES)]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data[1:])
    try:
        found = read_project(PROJECT)
        assert all(one.message for one in found.deviations)
    finally:
        place.unlink()


def seeds() -> dict[str, list[bytes]]:
    """What the fuzzer begins with: whole messages and the files of the sample."""
    files = sorted(path for path in sample.FOLDER.rglob("*") if path.suffix in (".md", ".yml", ".yaml"))
    files += sorted((Path(sample.FOLDER).parent / "builtin/.bmad-core").rglob("*.yaml"))[:8]
    message = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "story_next", "arguments": {}}}'
    return {
        "framing": [message, b'{"jsonrpc": "2.0", "id": "a", "result": {}}', b'[{"id": 1}]', b"\xff{", b'{"id": NaN}'],
        "stdio": [message + b"\n\n" + message, b"\r\n x\n"],
        "yaml": [path.read_bytes() for path in files if path.suffix != ".md"],
        "yaml_edit": [
            bytes([edit, at, 5 + at, 0]) + (path.read_bytes() if path.suffix != ".md" else EDITED)
            for edit in range(len(EDITS))
            for at, path in enumerate(files)
        ],
        "cursor": [b"WzUwXQ", b"WyJhIiwgMV0", b"W251bGxd", b"eyJ9"],
        "project": [bytes([at]) + path.read_bytes() for at in range(len(PLACES)) for path in files[at::7][:2]],
    }


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (framing, stdio, yaml, yaml_edit, cursor, project)
}
PROJECT = Path(tempfile.gettempdir()) / f"bmad-fuzz-{os.getpid()}"


def clean_up() -> None:
    """Remove the project that the targets write into."""
    shutil.rmtree(PROJECT, ignore_errors=True)
