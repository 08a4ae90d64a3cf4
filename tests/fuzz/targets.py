"""What the fuzzer calls with any bytes: each raises nothing but the refusals that its callers expect."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bmad_mcp import sample
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, parse_yaml
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
        "cursor": [b"WzUwXQ", b"WyJhIiwgMV0", b"W251bGxd", b"eyJ9"],
        "project": [bytes([at]) + path.read_bytes() for at in range(len(PLACES)) for path in files[at::7][:2]],
    }


TARGETS: dict[str, Callable[[bytes], None]] = {one.__name__: one for one in (framing, stdio, yaml, cursor, project)}
PROJECT = Path(tempfile.gettempdir()) / f"bmad-fuzz-{os.getpid()}"


def clean_up() -> None:
    """Remove the project that the targets write into."""
    shutil.rmtree(PROJECT, ignore_errors=True)
