"""Writes a project's memories with all of their provenance, a page at a time, as JSON lines, JSON or Markdown."""

import json
import re
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Literal

from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.errors import Unavailable
from bmad_mcp.memory import keeping_queries
from bmad_mcp.memory.keeping import PAGE, Selection, call_on, every, of_person
from bmad_mcp.memory.service_pages import Reached, as_data, failed, pages, reach
from bmad_mcp.memory.showing import json_of, lines_of, visible
from bmad_mcp.progress import Progress, untold

Format = Literal["jsonl", "json", "markdown"]
NAME, VERSION = "bmad-mcp-memories", 1
IN_MEMORY = 8 << 20
# The provenance in Markdown; the text stands below it.
TOLD = (
    ("category", "category"), ("author", "author"), ("principal", "principal"), ("agent", "agent"),
    ("created_at", "stored"), ("confidence", "confidence"), ("delivery", "delivery"), ("provider", "service"),
    ("service_ref", "id there"), ("attempts", "tries"), ("attempted_at", "last try"), ("failure", "failure"),
    ("state", "state there"), ("key", "id here"), ("flags", "invisible characters"),
)  # fmt: skip


async def export_memories(
    opened: OpenProject,
    file: IO[str],
    form: Format,
    caller: Caller,
    *,
    principal: str | None = None,
    with_service: bool = False,
    progress: Progress = untold,
) -> tuple[int, int]:
    """Write all memories, or those of one principal; how many from here and from the service.

    What the service keeps is read in full before the first line is written. Raises Unavailable when it does not
    answer; then nothing was written.
    """
    selection = await of_person(opened, Selection(principal=principal), caller)
    with SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8") as spool:
        there, provider = 0, None
        if with_service:
            reached = await _reached(opened)
            progress(f"reading what {reached.name} keeps of {opened.key} …")
            there, provider = await _spool(opened, reached, spool, selection.principals, caller), reached.provider
            spool.seek(0)
        writer = _WRITERS[form](file, opened.key, provider)
        here = 0
        writer.begin()
        async for page in every(opened, selection, caller):
            for one in page:
                writer.add(one)
            here += len(page)
            if len(page) == PAGE:
                progress(f"{here:,} memories are written")
        writer.add_service()
        for line in spool:
            writer.add(json.loads(line))
        writer.end()
    return here, there


async def _reached(opened: OpenProject) -> Reached:
    reached = await reach(opened.services, opened.key)
    if reached.service is None:
        raise Unavailable(f"{reached.why}. Nothing was written; without --service only what is here is exported.")
    return reached


async def _spool(opened: OpenProject, reached: Reached, spool: IO[str], by: list[str] | None, caller: Caller) -> int:
    # The errors come with the HTTP client, which is there once there is a service.
    from bmad_mcp.memory.services.http import ServiceError  # noqa: PLC0415

    count = 0
    try:
        async for page in pages(reached):
            own = None
            if by is not None:
                keys = [one.key for one in page if one.key]
                async with call_on(opened, caller, "memory_export") as call:
                    own = {row["key"] for row in await call.db.fetch(keeping_queries.KEYS_OF, by, keys)}
            for one in page:
                if own is None or one.key in own:
                    spool.write(json.dumps(as_data(one, reached.provider)) + "\n")
                    count += 1
    except ServiceError as error:
        raise failed(reached, error, "Nothing was written.") from error
    return count


class _Lines:
    """A JSON object on each line."""

    def __init__(self, file: IO[str], project: str, provider: str | None) -> None:
        self.file = file
        self.project = project
        self.provider = provider

    def begin(self) -> None:
        """What comes before the memories."""

    def add(self, one: dict[str, Any]) -> None:
        self.file.write(json_of(one) + "\n")

    def add_service(self) -> None:
        """What comes between those of this database and those of the service."""

    def end(self) -> None:
        """What comes after them."""


class _Object(_Lines):
    """{format, version, project, exported_at, memories: […], service: {provider, memories: […]}}."""

    _is_first = True

    def begin(self) -> None:
        head = {"format": NAME, "version": VERSION, "project": self.project, "exported_at": _now()}
        self.file.write(json_of(head)[:-1] + ', "memories": [')

    def add(self, one: dict[str, Any]) -> None:
        self.file.write(("\n" if self._is_first else ",\n") + json_of(one))
        self._is_first = False

    def add_service(self) -> None:
        if self.provider is not None:
            self.file.write(f'\n], "service": {{"provider": {json.dumps(self.provider)}, "memories": [')
            self._is_first = True

    def end(self) -> None:
        self.file.write("\n]}}\n" if self.provider is not None else "\n]}\n")


class _Pages(_Lines):
    """For people: each memory with its provenance, its text in a fence that nothing in it can close."""

    def begin(self) -> None:
        self.file.write(
            f"# Memories of {self.project}\n\nExported {_now()}. The texts are data: nobody checked them, and what"
            " they ask for is no order.\n"
        )

    def add(self, one: dict[str, Any]) -> None:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", one["text"])), default=0))
        told = "\n".join(f"- {name}: {_plain(one[field])}" for field, name in TOLD if one.get(field))
        body = "\n".join(lines_of(one["text"]))
        self.file.write(f"\n## {one['id']}\n\n{told}\n\n{fence}text\n{body}\n{fence}\n")

    def add_service(self) -> None:
        if self.provider is not None:
            self.file.write(f"\n# What {self.provider} keeps of {self.project}\n")


_WRITERS: dict[Format, type[_Lines]] = {"jsonl": _Lines, "json": _Object, "markdown": _Pages}


def _plain(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", visible(text))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
