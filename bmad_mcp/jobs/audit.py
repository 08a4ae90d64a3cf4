"""Reads the trail for auditors: every row in order, as it was at one moment, also what retention archived."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Literal

from bmad_mcp.activity.refusals import REFUSED, SUBJECT
from bmad_mcp.call import OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.interchange.readable import with_people
from bmad_mcp.interchange.snapshot import snapshot
from bmad_mcp.progress import Progress, untold

Format = Literal["jsonl", "csv"]
FIELDS = (
    "at", "outcome", "operation", "subject", "agent", "principal", "trace_id", "call_id", "id", "detail", "archived",
)  # fmt: skip
AT_ONCE = 1_000

_COLUMNS = "at, id, operation, subject, agent, principal, call_id, trace_id, detail"
# $3: whether the archive is read too. What is in both was archived and not yet deleted: it is one row.
TRAIL = f"""
SELECT DISTINCT ON (at, id) * FROM (
    SELECT {_COLUMNS}, false AS archived FROM bmad_agent_activity WHERE project_id = bmad_project()
    UNION ALL
    SELECT a.at, a.id, a.content ->> 'operation', a.content ->> 'subject', a.content ->> 'agent',
        a.content ->> 'principal', a.content ->> 'call_id', a.content ->> 'trace_id', a.content -> 'detail', true
    FROM mcp_archive a WHERE a.project_id = bmad_project() AND a.kind = 'activity' AND $3::bool
) t WHERE ($1::timestamptz IS NULL OR at >= $1::timestamptz) AND ($2::timestamptz IS NULL OR at < $2::timestamptz)
ORDER BY at, id, archived
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: how many rows, and the SHA-256 of all of it, in hexadecimal digits."""

    rows: int
    sha256: str


async def export_trail(
    opened: OpenProject,
    file: IO[bytes],
    form: Format,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    archived: bool = False,
    progress: Progress = untold,
) -> Exported:
    """Write the trail from `since` up to and without `until`, oldest first; with what was archived of it if asked."""
    digest, rows = hashlib.sha256(), 0

    def write(text: str) -> None:
        data = text.encode()
        digest.update(data)
        file.write(data)

    if form == "csv":
        write(_csv_line(FIELDS))
    async with snapshot(opened) as view:
        cursor = await view.connection.cursor(TRAIL, since, until, archived)
        names = await view.people()
        while batch := await cursor.fetch(AT_ONCE):
            write("".join(_lines([with_people("bmad_agent_activity", row, names) for row in batch], form)))
            rows += len(batch)
            if len(batch) == AT_ONCE:
                progress(f"{counted(rows, 'row is', 'rows are')} written")
    return Exported(rows, digest.hexdigest())


def _lines(rows: Sequence[Any], form: Format) -> Iterator[str]:
    for row in rows:
        told = as_told(row)
        if form == "jsonl":
            yield json.dumps(told, ensure_ascii=False) + "\n"
        else:
            detail = json.dumps(told["detail"], ensure_ascii=False)
            yield _csv_line(
                [("" if told[name] is None else told[name]) for name in FIELDS[:-2]]
                + [detail, str(told["archived"]).lower()]
            )


def as_told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as auditors read it: a refusal is told of the operation that was refused."""
    is_refusal = row["operation"] == REFUSED
    detail = json.loads(row["detail"]) if isinstance(row["detail"], str) else row["detail"]
    told = {
        **{name: row[name] for name in FIELDS if name != "outcome"},
        "at": row["at"].astimezone(UTC).isoformat(),
        "id": str(row["id"]),
        "outcome": "refused" if is_refusal else "done",
        "operation": row["subject"].removeprefix(SUBJECT) if is_refusal else row["operation"],
        "subject": None if is_refusal else row["subject"],
        "detail": detail,
    }
    return {name: told[name] for name in FIELDS}


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue()
