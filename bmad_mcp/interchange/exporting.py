"""Takes a whole project out, as JSON, as CSV or as Markdown, so that nobody is kept by their data."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic_core import to_json

from bmad_mcp.bmad_files.report import wrapped
from bmad_mcp.call import OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.errors import Invalid, Unavailable
from bmad_mcp.interchange.pages import write_pages
from bmad_mcp.interchange.snapshot import FAILURES, TABLES, Snapshot, snapshot
from bmad_mcp.interchange.target import file_target, folder_target
from bmad_mcp.progress import Progress, untold

Format = Literal["json", "csv", "markdown"]
NAME, VERSION = "bmad-mcp", 1
BEGINS = f'{{"format":"{NAME}",'.encode()

README = """# A project of bmad-mcp

Exported at {at}. Project `{key}`. One file a table, with every row that the project has.

- Encoding is UTF-8, the separator a comma. Each value stands in quotes; a quote inside is doubled.
- A cell without quotes is NULL, a cell of two quotes is an empty text. PostgreSQL's `COPY … CSV HEADER` reads it so.
- Times are ISO 8601 in UTC. Lists and objects are JSON.
- `bmad_artifacts.encoding` says what `content` holds: the text itself, or its bytes as base64.
- Columns that end in `_key` are the short names of what an id names: `T-1`, `W-1`, `1.2`. They follow the columns of
  the table.

The data is not changed. A spreadsheet may take a cell that begins with `=`, `+`, `-` or `@` for a formula: import
the columns as text, and do not open files of projects that you do not trust.

| file | rows |
|---|---|
{files}
"""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written: how many rows of each table, how many files and bytes."""

    project: str
    format: Format
    target: str
    tables: Mapping[str, int]
    files: int
    size: int

    @property
    def rows(self) -> int:
        """How many rows were written."""
        return sum(self.tables.values())

    def as_json(self) -> dict[str, Any]:
        """The summary as plain JSON."""
        return {
            "project": self.project,
            "format": self.format,
            "target": self.target,
            "rows": self.rows,
            "tables": dict(self.tables),
            "files": self.files,
            "size": self.size,
        }

    def render(self) -> str:
        """The summary as plain text."""
        told = (
            f"Exported project {self.project} to {self.target}: {counted(self.rows, 'row')}, {counted(self.files, 'file')},"
            f" {self.size:,} bytes."
        )
        lines = wrapped(told, "", "  ")
        lines += [f"  {name:<28}{count:>12,}" for name, count in self.tables.items() if count]
        return "\n".join(lines) + "\n"


async def export_as(
    opened: OpenProject,
    format: Format,  # noqa: A002
    target: Path,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
) -> ExportSummary:
    """Write the whole project to a file (json) or a folder (csv, markdown), as it is at one moment.

    Raises Conflict when something is there that may not be overwritten, Invalid when there is no folder to write in,
    Unavailable when the database or the disk fails; then nothing is left behind.
    """
    writers = {"json": _as_json, "csv": _as_csv, "markdown": _as_markdown}
    if format not in writers:
        raise Invalid(f"{format!r} is no known format. Give one of: {', '.join(writers)}.", field="format")
    tell = progress or untold
    place = partial(file_target, begins=BEGINS) if format == "json" else folder_target
    try:
        with place(target, overwrite=overwrite) as at:
            async with snapshot(opened) as view:
                tables = await writers[format](view, at, tell)
            files, size = await asyncio.to_thread(_measured, at)
    except FAILURES as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Unavailable(
            f"The database stopped the export ({reason}). Nothing was written; `bmad-mcp doctor` checks it."
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"{str(target)!r} cannot be written ({reason}). Nothing was left behind.") from error
    return ExportSummary(opened.key, format, str(target), tables, files, size)


def _measured(at: Path) -> tuple[int, int]:
    files = [at] if at.is_file() else [one for one in at.rglob("*") if one.is_file()]
    return len(files), sum(one.stat().st_size for one in files)


async def _as_json(view: Snapshot, at: Path, tell: Progress) -> dict[str, int]:
    """One object: {format, version, exported_at, project, tables: {name: [row, …]}}, a row a line.

    Rows are the columns of their table, as PostgreSQL writes them as JSON, and the short keys behind them.
    """
    counts: dict[str, int] = {}
    head = {"format": NAME, "version": VERSION, "exported_at": _now(), "project": view.opened.key}
    with await asyncio.to_thread(at.open, "x", encoding="utf-8", newline="") as file:
        start = to_json(head).decode()[:-1] + ',"tables":{'
        await asyncio.to_thread(file.write, start)
        for position, name in enumerate(TABLES):
            await asyncio.to_thread(file.write, f'{"," if position else ""}\n"{name}":[')
            counts[name] = await _json_rows(view, name, file)
            tell(f"{name}: {counted(counts[name], 'row')}")
        await asyncio.to_thread(file.write, "\n}}\n")
    return counts


async def _json_rows(view: Snapshot, table: str, file: TextIO) -> int:
    count = 0
    # As text: a number keeps its digits, and nothing is built only to be written again.
    sql = f"SELECT row_to_json(r)::text AS row FROM ({await view.select(table, as_text=False)}) r"
    async for batch in view.batches(sql, TABLES[table].batch):
        lines = [row["row"] for row in batch]
        if view.is_sealed(table):
            lines = [to_json(await view.readable(table, json.loads(line))).decode() for line in lines]
        text = ",\n".join(lines)
        await asyncio.to_thread(file.write, ("\n" if not count else ",\n") + text)
        count += len(batch)
    await asyncio.to_thread(file.write, "]" if not count else "\n]")
    return count


async def _as_csv(view: Snapshot, at: Path, tell: Progress) -> dict[str, int]:
    """A file for each table, and a README that says how to read them."""
    counts: dict[str, int] = {}
    for name in TABLES:
        sql = await view.select(name, as_text=True)
        if view.is_sealed(name):
            counts[name] = await _csv_rows(view, name, sql, at / f"{name}.csv")
        else:
            counts[name] = await view.copy(sql, at / f"{name}.csv")
        tell(f"{name}: {counted(counts[name], 'row')}")
    files = "\n".join(f"| `{name}.csv` | {count:,} |" for name, count in counts.items())
    text = README.format(at=_now(), key=view.opened.key, files=files)
    await asyncio.to_thread((at / "README.md").write_text, text, encoding="utf-8")
    return counts


async def _csv_rows(view: Snapshot, table: str, sql: str, target: Path) -> int:
    """What `Snapshot.copy` writes, for rows that only this process can read."""
    count = 0
    names = [*(one["name"] for one in await view.columns(table)), *TABLES[table].keys]
    with await asyncio.to_thread(target.open, "x", encoding="utf-8", newline="") as file:
        await asyncio.to_thread(file.write, ",".join(names) + "\n")
        async for batch in view.batches(sql, TABLES[table].batch):
            rows = [await view.readable(table, row) for row in batch]
            text = "".join(",".join(_cell(row[name]) for name in names) + "\n" for row in rows)
            await asyncio.to_thread(file.write, text)
            count += len(rows)
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else to_json(value).decode()
    return '"' + text.replace('"', '""') + '"'


async def _as_markdown(view: Snapshot, at: Path, tell: Progress) -> dict[str, int]:
    """A folder that people read; see pages."""
    return await write_pages(view, at, tell)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
