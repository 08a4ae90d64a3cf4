"""What can be done with artifacts: the documents of a project."""

import hashlib
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bmad_mcp.activity.record import record
from bmad_mcp.artifacts import queries
from bmad_mcp.artifacts.labels import checked_label
from bmad_mcp.artifacts.places import never_written
from bmad_mcp.artifacts.schemas import ArtifactAnswer, ArtifactBrief, ArtifactOut, ArtifactPage
from bmad_mcp.call import Call
from bmad_mcp.errors import Conflict, Invalid, NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.projects.counters import next_number
from bmad_mcp.shapes import (
    ArtifactKey,
    Cursor,
    Limit,
    Line,
    StoryKey,
    TaskKey,
    Title,
    WorkflowKey,
    decode_cursor,
    encode_cursor,
    number_of,
)

NEWEST = 2**31 - 1
# About 10,000 tokens of English: hosts cut an answer at 25,000. A multiple of four, so that base64 is cut well.
SHOWN = 40_000

KIND = r"^[a-z0-9][a-z0-9 _-]*$"


def _kind(text: str) -> str:
    if not re.fullmatch(KIND, text):
        raise ValueError("must be small letters, digits, spaces, - and _, such as prd")
    return text


Kind = Annotated[
    str,
    Field(min_length=1, max_length=60, description="Such as prd.", json_schema_extra={"pattern": KIND}),
    AfterValidator(_kind),
]


async def artifact_record(
    call: Call,
    kind: Kind,
    title: Title | None = None,
    path: Annotated[Line | None, Field(description="Where it lies in the project; a label, never opened.")] = None,
    content: Annotated[str, Field(max_length=1_000_000)] = "",
    story: StoryKey | None = None,
    task: TaskKey | None = None,
    workflow: WorkflowKey | None = None,
) -> ArtifactAnswer:
    """Record a document that was made; the same path again replaces it."""
    if title is None and path is None:
        raise Invalid(
            "artifact_record needs `title` or `path`, so that the document can be found again.", field="title"
        )
    label = checked_label(path, "path") if path is not None else None
    if label is not None and "://" in label:
        raise Invalid(
            "`path` must be a path in the project, such as docs/prd.md; put an address into `title`.", field="path"
        )
    ids = await _ids(call, story, task, workflow)
    kept = await call.db.fetchval(
        queries.RECORD,
        await next_number(call, "artifact"),
        kind,
        title or (label or "").rsplit("/", 1)[-1],
        label,
        content,
        hashlib.sha256(content.encode()).hexdigest() if content else "",
        *(ids["story"], ids["task"], ids["workflow"]),
        call.caller.connection,
    )
    if kept is None:
        raise await _has_a_home(call, label or "")
    # A path alone is a label: work may have changed any file.
    if label is not None and content and (reason := never_written(label)):
        raise Invalid(
            f"A document is never written at {label[:200]}: {reason}. Record it under a path such as docs/notes.md, or"
            " without `content`.",
            field="path",
        )
    row = await call.db.fetchrow(queries.GET, kept, 0, 0)
    await record(call, f"artifact {row['key']}", title=row["title"], kind=row["kind"], path=label)
    return ArtifactAnswer(artifact=ArtifactBrief.of(row))


async def _ids(call: Call, story: str | None, task: str | None, workflow: str | None) -> Any:
    numbers = [number_of(key) if key else None for key in (task, workflow)]
    ids = await call.db.fetchrow(queries.IDS, story, *numbers)
    for name, key in (("story", story), ("task", task), ("workflow", workflow)):
        if key is not None and ids[name] is None:
            raise NotFound(f"There is no {name} {key}. {name}_list shows what there is.", field=name)
    return ids


async def _has_a_home(call: Call, path: str) -> Conflict:
    kind = await call.db.fetchval(queries.KIND_AT, path)
    mend = {"story": "story_update changes the story", "gate": "gate_record records a gate"}
    return Conflict(
        f"{path} is a {kind} file that an import keeps, so it is not replaced here;"
        f" {mend.get(kind, 'change the file and import it again')}, or record the document under another path.",
        field="path",
    )


async def artifact_list(
    call: Call,
    kind: Annotated[
        str | None, Field(max_length=60, description="Also story, template and other imported files.")
    ] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> ArtifactPage:
    """List the project's documents, newest first."""
    (before,) = decode_cursor(cursor, int) if cursor else (NEWEST,)
    if kind is None:
        rows = await call.db.fetch(queries.LIST, before, limit + 1)
    else:
        rows = await call.db.fetch(queries.LIST_OF_KIND, before, limit + 1, kind)
    following = encode_cursor(rows[limit - 1]["number"]) if len(rows) > limit else None
    return ArtifactPage(items=[ArtifactBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def artifact_get(
    call: Call,
    artifact: ArtifactKey,
    offset: Annotated[int, Field(ge=0, le=2**31 - 2, description="First character to show, for a long one.")] = 0,
) -> ArtifactOut:
    """Read a document."""
    row = await call.db.fetchrow(queries.GET, number_of(artifact), offset, SHOWN)
    if row is None:
        raise NotFound(f"There is no artifact {artifact}. artifact_list shows them.", field="artifact")
    return ArtifactOut.of(row, note=_note(row, offset))


def _note(row: Any, offset: int) -> str | None:
    total, shown = row["characters"], len(row["content"])
    if total == 0:
        return "No text was recorded, only where the document is."
    notes = ["The file is not text: `content` is base64."] if row["encoding"] == "base64" else []
    if shown < total:
        end = offset + shown
        more = f" offset={end} shows what follows." if shown and end < total else ""
        notes.append(f"Characters {offset:,} to {end:,} of {total:,}.{more}")
    return " ".join(notes) or None


OPERATIONS = (
    Operation(artifact_record, "POST /artifacts", toolset="planning"),
    Operation(artifact_list, "GET /artifacts", toolset="planning"),
    Operation(artifact_get, "GET /artifacts/{artifact}", toolset="planning"),
)
