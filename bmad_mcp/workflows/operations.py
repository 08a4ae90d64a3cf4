"""What can be done with workflows."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from bmad_mcp.activity.record import record
from bmad_mcp.activity.similar import check_similar
from bmad_mcp.artifacts.labels import checked_label
from bmad_mcp.call import Call
from bmad_mcp.db import uuid7
from bmad_mcp.errors import Conflict, InvalidMove, NotFound
from bmad_mcp.lifecycles import WORKFLOW, WorkflowStatus, WorkflowType, move
from bmad_mcp.memory.look_up import look_up
from bmad_mcp.memory.recall import note_recall
from bmad_mcp.memory.schemas import MemoryFound
from bmad_mcp.operation import Operation, always
from bmad_mcp.projects.counters import next_number
from bmad_mcp.shapes import (
    Cursor,
    DefinitionName,
    Limit,
    Line,
    LongText,
    StoryKey,
    Title,
    WorkflowKey,
    decode_cursor,
    encode_cursor,
    number_of,
)
from bmad_mcp.workflows import queries
from bmad_mcp.workflows.lessons import MEMORY_CHARACTERS, like_it, question_of, remember_outcome, remember_pattern
from bmad_mcp.workflows.routes import loop_body, with_ways_back
from bmad_mcp.workflows.schemas import (
    Progress,
    SimilarRun,
    StageBrief,
    WorkflowBrief,
    WorkflowChanged,
    WorkflowKind,
    WorkflowKinds,
    WorkflowMoved,
    WorkflowOut,
    WorkflowPage,
    WorkflowStarted,
    WorkflowTask,
)
from bmad_mcp.workflows.stages import close, go_on

NEWEST = 2**31 - 1


async def workflow_types(call: Call, limit: Limit = 20, cursor: Cursor | None = None) -> WorkflowKinds:
    """List the workflows that can be started; those without stages cannot."""
    after = decode_cursor(cursor, int, str) if cursor else (0, "")
    rows = await call.db.fetch(queries.DEFINITIONS, *after, limit + 1)
    following = encode_cursor(rows[limit - 1]["empty"], rows[limit - 1]["type"]) if len(rows) > limit else None
    return WorkflowKinds(items=[WorkflowKind.of(row) for row in rows[:limit]], next_cursor=following)


async def workflow_start(
    call: Call,
    type: Annotated[DefinitionName, Field(description="Such as greenfield-fullstack or brownfield-ui.")],  # noqa: A002
    title: Title | None = None,
    story: StoryKey | None = None,
) -> WorkflowStarted:
    """Start a workflow run; answers its first stage and earlier runs like it."""
    question = question_of(type, title)
    answer = await look_up(call, question)
    definition = await call.db.fetchrow(queries.DEFINITION, type)
    stages = with_ways_back(definition["body"].get("stages") or []) if definition else []
    if not stages:
        known = ", ".join(await call.db.fetchval(queries.DEFINITION_NAMES) or []) or "none"
        if definition is None:
            raise NotFound(f"There is no workflow of type {type!r}. There are: {known}.", field="type")
        raise Conflict(
            f"The workflow {type} was imported without stages, so it cannot run. Choose one of: {known}.", field="type"
        )
    story_id = await call.db.fetchval(queries.STORY_ID, story) if story else None
    if story and story_id is None:
        raise NotFound(f"There is no story {story}. story_list shows the stories.", field="story")
    await check_similar(call, title or definition["title"], type, story)
    similar = await call.db.fetch(queries.SIMILAR, type)
    found = await like_it(call, question, answer)
    run_id, number = uuid7(), await next_number(call, "workflow")
    kind = type if type in set(WorkflowType) else WorkflowType.CUSTOM.value
    await call.db.execute(queries.CREATE, run_id, number, kind, type, title or definition["title"], story_id)
    await call.db.execute(queries.ADD_STAGES, run_id, story, stages, loop_body(stages))
    await call.db.execute(queries.BEGIN_RUN, run_id)
    stage = await go_on(call, {"id": run_id, "definition": type, "story_id": story_id})
    brief = await _brief(call, number)
    await record(call, f"workflow W-{number}", title=brief.title, type=type, story=story)
    await note_recall(call, found, category=question.category)
    return WorkflowStarted(
        workflow=brief,
        stage=stage,
        similar=[SimilarRun.of(row) for row in similar],
        memory=MemoryFound.of_recall(found, longest=MEMORY_CHARACTERS),
        remembered=await remember_pattern(call, brief, stages),
    )


async def workflow_list(
    call: Call,
    status: Literal[tuple(WorkflowStatus)] | None = None,  # type: ignore[valid-type]
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> WorkflowPage:
    """List workflow runs, newest first."""
    (before,) = decode_cursor(cursor, int) if cursor else (NEWEST,)
    rows = await call.db.fetch(queries.LIST, before, status, limit + 1)
    following = encode_cursor(rows[limit - 1]["number"]) if len(rows) > limit else None
    return WorkflowPage(items=[_told(row) for row in rows[:limit]], next_cursor=following)


async def workflow_get(call: Call, workflow: WorkflowKey) -> WorkflowOut:
    """Read a run: every stage with its status, progress and tasks."""
    row = await _row(call, number_of(workflow))
    stages = await call.db.fetch(queries.STAGES, row["id"])
    tasks = await call.db.fetch(queries.TASKS, row["id"])
    brief = _told(row)
    return WorkflowOut.of(
        row,
        workflow=brief,
        progress=brief.progress,
        stages=[_stage_brief(stage) for stage in stages],
        earlier_stages=_left_out(stages),
        tasks=[WorkflowTask.of(task) for task in tasks],
        more_tasks=_left_out(tasks),
    )


async def workflow_advance(
    call: Call,
    workflow: WorkflowKey,
    outcome: Annotated[str, Field(max_length=120, description="`done`, `skip`, or a route of the stage.")],
    artifact: Annotated[Line | None, Field(description="Path or title of what the stage made.")] = None,
    note: LongText | None = None,
    position: Annotated[
        int | None, Field(description="Of the stage you mean; refused if the run is elsewhere.")
    ] = None,
) -> WorkflowMoved:
    """Close the active stage of a run and go on to the next."""
    number = number_of(workflow)
    label = checked_label(artifact, "artifact") if artifact else None
    expected = await call.db.fetchval(queries.ACTIVE_STAGE_OF, number)
    locked = await call.db.fetchrow(queries.LOCK, number)
    if locked is None:
        raise _not_found(number)
    if locked["status"] != WorkflowStatus.ACTIVE:
        raise _not_active(workflow, locked["status"])
    stage = await call.db.fetchrow(queries.ACTIVE_STAGE, locked["id"])
    if stage["id"] != expected or position not in (None, stage["position"]):
        raise Conflict(
            f"Workflow {workflow} is at stage {stage['position']} by now; nothing was changed."
            " Read it with workflow_get, then advance that stage.",
            field="position",
        )
    run = await _row(call, number)
    counted = await close(call, run, stage, outcome, label, note)
    following = await go_on(call, run)
    brief = await _brief(call, number)
    await record(
        call,
        f"workflow {workflow}",
        role=stage["agent"],
        stage=stage["position"],
        outcome=counted,
        status=brief.status if following is None else None,
        note=(note or "")[:300] or None,
    )
    if following is not None:
        return WorkflowMoved(workflow=brief, stage=following)
    return WorkflowMoved(workflow=brief, stage=None, remembered=await remember_outcome(call, brief, run["id"]))


async def workflow_pause(call: Call, workflow: WorkflowKey, reason: Line | None = None) -> WorkflowChanged:
    """Pause a run; workflow_resume goes on where it stood."""
    return await _move(call, workflow, WorkflowStatus.PAUSED, reason)


async def workflow_resume(call: Call, workflow: WorkflowKey, reason: Line | None = None) -> WorkflowChanged:
    """Go on with a paused run."""
    return await _move(call, workflow, WorkflowStatus.ACTIVE, reason)


async def workflow_cancel(call: Call, workflow: WorkflowKey, reason: Line | None = None) -> WorkflowChanged:
    """End a run that will not be finished; this is final."""
    return await _move(call, workflow, WorkflowStatus.CANCELLED, reason)


async def _move(call: Call, workflow: str, target: WorkflowStatus, reason: str | None) -> WorkflowChanged:
    number = number_of(workflow)
    row = await _row(call, number)
    await move(call.db, WORKFLOW, row["id"], target, key=workflow, reason=reason)
    if target is WorkflowStatus.CANCELLED:
        await call.db.execute(queries.SKIP_ACTIVE, row["id"], queries.CUT_OFF)
    await record(call, f"workflow {workflow}", status=target.value, note=reason)
    brief = await _brief(call, number)
    if target is not WorkflowStatus.CANCELLED:
        return WorkflowChanged(workflow=brief)
    return WorkflowChanged(workflow=brief, remembered=await remember_outcome(call, brief, row["id"]))


def _not_active(workflow: str, status: str) -> InvalidMove:
    if WorkflowStatus.ACTIVE in WORKFLOW.moves[WorkflowStatus(status)]:
        mend = f"Call workflow_resume workflow={workflow} first."
    else:
        mend = "workflow_start begins a new run."
    return InvalidMove(f"Workflow {workflow} is {status}, so it cannot advance. {mend}", field="workflow")


def _not_found(number: int) -> NotFound:
    return NotFound(f"There is no workflow W-{number}. workflow_list shows the runs.", field="workflow")


async def _row(call: Call, number: int) -> Any:
    row = await call.db.fetchrow(queries.GET, number)
    if row is None:
        raise _not_found(number)
    return row


async def _brief(call: Call, number: int) -> WorkflowBrief:
    return _told(await _row(call, number))


def _told(row: Any) -> WorkflowBrief:
    return WorkflowBrief.of(row, progress=Progress(percent=row["percent"], done=row["done"], total=row["total"]))


def _left_out(rows: Sequence[Any]) -> int | None:
    return rows[0]["total"] - len(rows) or None if rows else None


def _stage_brief(row: Any) -> StageBrief:
    return StageBrief.of(
        row,
        iteration=row["iteration"] if row["iteration"] > 1 else None,
        kind=row["kind"] if row["kind"] != "agent" else None,
        requires=list(row["requires"]) or None,
        optional=row["optional"] or None,
    )


OPERATIONS = (
    Operation(workflow_types, "GET /workflows/types", toolset="planning"),
    Operation(workflow_start, "POST /workflows/start"),
    Operation(workflow_list, "GET /workflows", also=("GET /workflows/active?status=active",), alone=always),
    Operation(workflow_get, "GET /workflows/{workflow}", resource="bmad://workflows/{workflow}", alone=always),
    Operation(workflow_advance, "POST /workflows/{workflow}/advance"),
    Operation(workflow_pause, "POST /workflows/{workflow}/pause"),
    Operation(workflow_resume, "POST /workflows/{workflow}/resume"),
    Operation(workflow_cancel, "POST /workflows/{workflow}/cancel"),
)
