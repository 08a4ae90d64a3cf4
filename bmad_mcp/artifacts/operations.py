"""What can be done with artifacts: the documents of a project."""

import hashlib
from datetime import datetime
from typing import Annotated

from pydantic import Field

from bmad_mcp.activity.record import record
from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.projects.counters import next_number
from bmad_mcp.shapes import (
    ArtifactKey,
    Cursor,
    Limit,
    Line,
    Out,
    StoryKey,
    TaskKey,
    Title,
    WorkflowKey,
    decode_cursor,
    encode_cursor,
    number_of,
)

NEWEST = 2**31 - 1
SHOWN = 100_000

RECORD = """
INSERT INTO bmad_artifacts (project_id, number, kind, title, path, content, content_hash, story_id, task_id,
    workflow_id)
VALUES (bmad_project(), $1::int, $2::text, $3::text, $4::text, $5::text, $6::text, $7, $8, $9)
ON CONFLICT (project_id, path) DO UPDATE SET kind = excluded.kind, title = excluded.title,
    content = CASE WHEN excluded.content = '' THEN bmad_artifacts.content ELSE excluded.content END,
    content_hash = CASE WHEN excluded.content = '' THEN bmad_artifacts.content_hash ELSE excluded.content_hash END,
    encoding = CASE WHEN excluded.content = '' THEN bmad_artifacts.encoding ELSE 'utf-8' END,
    story_id = coalesce(excluded.story_id, bmad_artifacts.story_id),
    task_id = coalesce(excluded.task_id, bmad_artifacts.task_id),
    workflow_id = coalesce(excluded.workflow_id, bmad_artifacts.workflow_id),
    updated_at = now(), version = bmad_artifacts.version + 1
RETURNING number
"""
# What the import keeps of an installation is left out unless its kind is asked for.
DEFINITIONS = "('agent', 'workflow', 'template', 'checklist', 'task', 'data', 'team', 'skill', 'config', 'manifest')"
BRIEF = "number, 'A-' || number AS key, kind, title, path, source, length(content) AS characters, updated_at"
LIST = f"""
SELECT {BRIEF} FROM bmad_artifacts WHERE project_id = bmad_project() AND number < $1::int
  AND CASE WHEN $2::text IS NULL THEN kind NOT IN {DEFINITIONS} ELSE kind = $2::text END
ORDER BY number DESC LIMIT $3::int
"""
GET = f"""
SELECT {BRIEF}, version, encoding, generation, agent, left(content, {SHOWN}) AS content,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = a.project_id AND s.id = a.story_id) AS story,
    (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.project_id = a.project_id AND t.id = a.task_id) AS task,
    (SELECT 'W-' || w.number FROM bmad_workflows w
     WHERE w.project_id = a.project_id AND w.id = a.workflow_id) AS workflow
FROM bmad_artifacts a WHERE a.project_id = bmad_project() AND a.number = $1::int
"""
IDS = """
SELECT (SELECT id FROM bmad_stories WHERE project_id = bmad_project() AND key = $1::text) AS story,
    (SELECT id FROM bmad_tasks WHERE project_id = bmad_project() AND number = $2::int) AS task,
    (SELECT id FROM bmad_workflows WHERE project_id = bmad_project() AND number = $3::int) AS workflow
"""


class ArtifactBrief(Out):
    """An artifact in one line."""

    key: str
    kind: str
    title: str
    path: str | None = None
    source: str
    characters: int
    updated_at: datetime


class ArtifactPage(Out):
    """A page of artifacts."""

    items: list[ArtifactBrief]
    next_cursor: str | None


class ArtifactOut(ArtifactBrief):
    """An artifact with its content; `truncated` when it is longer than what is shown."""

    version: int
    encoding: str
    generation: str | None = None
    agent: str | None = None
    story: str | None = None
    task: str | None = None
    workflow: str | None = None
    content: str | None = None
    truncated: bool | None = None


class ArtifactAnswer(Out):
    """The artifact that was recorded."""

    artifact: ArtifactBrief


async def artifact_record(
    call: Call,
    kind: Annotated[
        str, Field(min_length=1, max_length=60, pattern=r"^[a-z0-9][a-z0-9 _-]*$", description="Such as prd.")
    ],
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
    if path is not None and (path.startswith(("/", "~")) or ".." in path.split("/") or not path.strip()):
        raise Invalid("`path` must be relative to the project, without `..`, such as docs/prd.md.", field="path")
    ids = await call.db.fetchrow(
        IDS, story, number_of(task) if task else None, number_of(workflow) if workflow else None
    )
    for name, key in (("story", story), ("task", task), ("workflow", workflow)):
        if key is not None and ids[name] is None:
            raise NotFound(f"There is no {name} {key}. {name}_list shows what there is.", field=name)
    digest = hashlib.sha256(content.encode()).hexdigest() if content else ""
    shown = title or (path or "").rsplit("/", 1)[-1]
    number = await next_number(call, "artifact")
    kept = await call.db.fetchval(
        RECORD, number, kind, shown, path, content, digest, ids["story"], ids["task"], ids["workflow"]
    )
    await record(call, f"artifact A-{kept}", kind=kind, path=path)
    return ArtifactAnswer(artifact=ArtifactBrief.of(await call.db.fetchrow(GET, kept)))


async def artifact_list(
    call: Call,
    kind: Annotated[str | None, Field(max_length=60)] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> ArtifactPage:
    """List the project's documents, newest first."""
    (before,) = decode_cursor(cursor, int) if cursor else (NEWEST,)
    rows = await call.db.fetch(LIST, before, kind, limit + 1)
    following = encode_cursor(rows[limit - 1]["number"]) if len(rows) > limit else None
    return ArtifactPage(items=[ArtifactBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def artifact_get(call: Call, artifact: ArtifactKey) -> ArtifactOut:
    """Read a document."""
    row = await call.db.fetchrow(GET, number_of(artifact))
    if row is None:
        raise NotFound(f"There is no artifact {artifact}. artifact_list shows them.", field="artifact")
    return ArtifactOut.of(row, truncated=True if row["characters"] > SHOWN else None)


OPERATIONS = (
    Operation(artifact_record, "POST /artifacts", toolset="planning"),
    Operation(artifact_list, "GET /artifacts", toolset="planning"),
    Operation(artifact_get, "GET /artifacts/{artifact}", toolset="planning"),
)
