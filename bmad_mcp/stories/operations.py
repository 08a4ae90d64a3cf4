"""What can be done with stories."""

from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field

from bmad_mcp.activity.record import record
from bmad_mcp.activity.similar import marks, refuse_similar
from bmad_mcp.call import Call
from bmad_mcp.db import uuid7
from bmad_mcp.errors import Conflict, Invalid
from bmad_mcp.lifecycles import STORY, StoryStatus
from bmad_mcp.operation import Operation, always
from bmad_mcp.shapes import (
    AgentName,
    Cursor,
    EpicKey,
    Limit,
    Line,
    LongText,
    StoryKey,
    Title,
    decode_cursor,
    encode_cursor,
    one_line,
)
from bmad_mcp.stories import advice, queries
from bmad_mcp.stories.acting import acting_agent
from bmad_mcp.stories.context import TITLE, brief, compact, cut
from bmad_mcp.stories.epics import epic_create, epic_get, epic_list, refuse_epic
from bmad_mcp.stories.gates import gate_get, gate_record
from bmad_mcp.stories.markdown import story_markdown
from bmad_mcp.stories.refusals import changed_meanwhile, gate_missing, unknown_story
from bmad_mcp.stories.rights import check_edit, check_move, check_plan
from bmad_mcp.stories.schemas import (
    EpicState,
    OpenTask,
    SectionOut,
    StoryChange,
    StoryInHand,
    StoryNext,
    StoryOut,
    StoryPage,
    StoryState,
    StoryTask,
)
from bmad_mcp.stories.sections import TOP_LEVEL, Section, bare, name_for, text_of, with_text
from bmad_mcp.stories.wording import read_acceptance, read_story_sentence, sections_of, tidy

Priority = Literal["low", "medium", "high", "critical"]
Points = Annotated[int, Field(ge=0, le=1000)]
STARTED = frozenset({StoryStatus.IN_PROGRESS, StoryStatus.REVIEW, StoryStatus.DONE})
# Where a story has its work behind it.
BEHIND = frozenset({StoryStatus.REVIEW, StoryStatus.DONE, StoryStatus.CANCELLED})
SENTENCE = ("role", "want", "benefit")
WORKABLE = frozenset({StoryStatus.READY, StoryStatus.IN_PROGRESS, StoryStatus.REVIEW})


async def story_create(
    call: Call,
    epic: EpicKey,
    title: Title,
    role: Line = "",
    want: Line = "",
    benefit: Line = "",
    acceptance: Annotated[tuple[Line, ...], Field(max_length=100)] = (),
    points: Points | None = None,
    priority: Priority = "medium",
) -> StoryChange:
    """Add a draft story to an epic: as a `role`, I want `want`, so that `benefit`."""
    found = await call.db.fetchrow(queries.LOCK_EPIC, epic)
    if found is None:
        await refuse_epic(call, epic)
    criteria = [text for text in map(tidy, acceptance) if text]
    sentence = one_line(role), one_line(want), one_line(benefit)
    same = marks(call, title, epic)
    row = await call.db.fetchrow(
        queries.CREATE_UNLESS_SIMILAR if same else queries.CREATE,
        uuid7(),
        found["id"],
        found["number"],
        title,
        *sentence,
        criteria,
        sections_of(*sentence, criteria),
        points,
        priority,
        await acting_agent(call),
        call.caller.principal,
        call.id,
        *same,
    )
    if row is None:
        await refuse_similar(call, same)
    return StoryChange(story=StoryState.of(row))


async def story_list(
    call: Call,
    status: Literal[tuple(StoryStatus)] | None = None,  # type: ignore[valid-type]
    epic: EpicKey | None = None,
    query: Annotated[str | None, Field(max_length=300, description="Words, or the start of a key.")] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> StoryPage:
    """List or search stories in the order of their keys."""
    sql, values = queries.LIST, list[Any]()
    if status is not None:
        sql += queries.LIST_STATUS[StoryStatus(status)]
    if epic is not None:
        values.append(epic)
        sql += (
            " AND s.epic_id = (SELECT e.id FROM bmad_epics e"
            f" WHERE e.project_id = bmad_project() AND e.key = ${len(values)})"
        )
    if query is not None and query.strip():
        escaped = query.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values += [_any_word(query), f"{escaped}%", f"%{escaped}%"]
        sql += (
            f" AND (s.search @@ websearch_to_tsquery('english', ${len(values) - 2})"
            f" OR s.key LIKE ${len(values) - 1} OR s.title ILIKE ${len(values)})"
        )
    if cursor is not None:
        values += decode_cursor(cursor, int, int, str)
        sql += (
            " AND (s.epic_number, s.number, s.suffix)"
            f" > (${len(values) - 2}::int, ${len(values) - 1}::int, ${len(values)}::text)"
        )
    rows = await call.db.fetch(f"{sql} ORDER BY s.epic_number, s.number, s.suffix LIMIT {limit + 1}", *values)
    if not rows and epic is not None and await call.db.fetchrow(queries.GET_EPIC, epic) is None:
        await refuse_epic(call, epic)
    page = rows[:limit]
    last = page[-1] if len(rows) > limit else None
    following = encode_cursor(last["epic_number"], last["number"], last["suffix"]) if last else None
    return StoryPage(items=[brief(row) for row in page], next_cursor=following)


async def story_get(call: Call, story: StoryKey) -> StoryOut:
    """Read a whole story: sections, acceptance criteria, tasks, gate and version."""
    row = await call.db.fetchrow(queries.GET, story)
    if row is None:
        raise unknown_story(story)
    told = read_story_sentence(text_of(row["sections"], "Story"))
    repeats = told == tuple(row[name] for name in SENTENCE)
    found = StoryOut.of(
        row,
        sections=_with_words(row["sections"]),
        tasks=[StoryTask(**task) for task in row["tasks"] or []],
        **(dict.fromkeys(SENTENCE) if repeats else {}),
    )
    # Told as null when there is none.
    return found.model_copy(update={"gate": row["gate"], "file": row["file"]})


def _with_words(sections: list[Section]) -> list[SectionOut]:
    """The sections that have a text, and those around them."""
    kept: list[SectionOut] = []
    for one in reversed(sections):
        text, level = bare(one["text"]), one["level"]
        if text or (kept and kept[-1].level > level):
            kept.append(SectionOut.of(one, text=text, level=None if level == TOP_LEVEL else level))
    return kept[::-1]


async def story_update(
    call: Call,
    story: StoryKey,
    expected_version: Annotated[int, Field(description="The version you read.")],
    status: Literal[tuple(StoryStatus)] | None = None,  # type: ignore[valid-type]
    section: Annotated[
        str | None, Field(max_length=1000, description="Heading, such as Dev Notes; `## Name` adds one.")
    ] = None,
    text: Annotated[LongText | None, Field(description="The section's whole new text.")] = None,
    title: Title | None = None,
    points: Points | None = None,
    priority: Priority | None = None,
    agent: Annotated[AgentName | None, Field(description="Default: the one you activated last.")] = None,
) -> StoryChange:
    """Move a story's status, set one section, or correct its plan, as the agent in session may."""
    if (section is None) != (text is None):
        raise Invalid("`section` and `text` go together: the heading and its whole new text.", field="section")
    plan = {"title": title and one_line(title), "points": points, "priority": priority}
    plan = {name: value for name, value in plan.items() if value is not None}
    if status is None and section is None and not plan:
        raise Invalid("story_update needs something to change: status, section with text, title, points or priority.")
    before = await call.db.fetchrow(queries.STATE, story)
    if before is None:
        raise unknown_story(story)
    if before["version"] != expected_version:
        raise await changed_meanwhile(call.db, before, expected_version)
    if status is not None and StoryStatus(status) not in STORY.moves[StoryStatus(before["status"])]:
        # Before the rights: nobody may make a move that there is not.
        raise STORY.refuse(story, before["status"], status)
    acting = await acting_agent(call, agent)
    if plan:
        check_plan(acting, next(iter(plan)))
    name, changed = None, dict(plan)
    if section is not None and text is not None:
        name, governs = name_for(before["sections"], section)
        check_edit(acting, name, governs)
        changed |= _edited(with_text(before["sections"], name, text, governs), governs)
    if status is not None:
        check_move(acting, story, before["status"], status)
        await call.db.execute(queries.LOCK_TASKS, before["id"])
    fields = ("sections", "acceptance", *SENTENCE, "title", "points", "priority")
    row = await call.db.fetchrow(queries.UPDATE, story, expected_version, status, *map(changed.get, fields))
    if row is None:
        await _refuse_update(call, story, expected_version, status)
    await record(
        call, f"story {story}", agent=acting, status=status, was=status and before["status"], section=name, **plan
    )
    more: dict[str, Any] = {"section": name}
    if status is not None:
        more |= await _after_move(call, row, acting)
    return StoryChange(story=StoryState.of(row), **{field: one for field, one in more.items() if one is not None})


def _edited(sections: list[Section], governs: str | None) -> dict[str, Any]:
    """The columns that an edit of a section changes."""
    changed: dict[str, Any] = {"sections": sections}
    if governs == "Acceptance Criteria":
        changed["acceptance"] = read_acceptance(text_of(sections, governs))
    elif governs == "Story" and (sentence := read_story_sentence(text_of(sections, governs))):
        changed |= dict(zip(SENTENCE, sentence, strict=True))
    return changed


async def _after_move(call: Call, row: Any, agent: str | None) -> dict[str, Any]:
    """What follows the story: its tasks, those that are open behind it, and its epic."""
    status, told = row["status"], dict[str, Any]()
    tasks = await call.db.fetch(queries.TASKS_FOLLOW, row["id"], status in WORKABLE)
    if tasks and status in BEHIND:
        told["open_tasks"] = [OpenTask.of(task) for task in tasks]
        told["next"] = advice.about_open_tasks(status, [task["key"] for task in tasks])
    if status in STARTED:
        epic = await call.db.fetchrow(queries.EPIC_STARTS, row["epic_id"])
        if epic is not None:
            await record(call, f"epic {epic['key']}", agent=agent, status=epic["status"])
            told["epic"] = EpicState.of(epic)
    return told


async def _refuse_update(call: Call, story: str, expected: int, status: str | None) -> NoReturn:
    now = await call.db.fetchrow(queries.STATE, story)
    if now is None:
        raise unknown_story(story)
    if now["version"] != expected or status is None:
        raise await changed_meanwhile(call.db, now, expected)
    if status in STORY.moves[StoryStatus(now["status"])]:
        asked = await call.db.fetchrow(queries.GATE_ASKED, story)
        if asked is None or asked["passes"]:
            raise Conflict(f"Story {story} changed just now. Read it with story_get and try again.", field="status")
        raise gate_missing(asked)
    raise STORY.refuse(story, now["status"], status)


async def story_next(call: Call) -> StoryNext:
    """The story to work on now, why, the context to do it, and what to call next."""
    row = await call.db.fetchrow(queries.NEXT, call.caller.connection)
    agent = row["asks"]
    beside = None
    if advice.looks_beside(row["rank"], agent):
        more = await call.db.fetchrow(queries.BESIDE, agent)
        beside = StoryTask(**{**one, "title": cut(one["title"], TITLE)}) if (one := more["beside"]) else None
    if row["key"] is None:
        reason, then = advice.without_story(call.project_key, agent, beside, **more["how_much"])
        told = StoryNext(story=None, why=reason, next=then)
        return told.model_copy(update={"tasks": [beside]}) if beside else told
    tasks = [StoryTask(**{**task, "title": cut(task["title"], TITLE)}) for task in row["open_tasks"] or []]
    return StoryNext(
        story=StoryInHand.of(row, epic_title=cut(row["epic_title"], TITLE)),
        why=advice.why(row["rank"], agent),
        context=compact(row),
        tasks=tasks,
        next=advice.next_call(agent, dict(row), tasks, beside),
    )


def _any_word(query: str) -> str:
    """A web search that any of the words satisfies, unless the caller uses its signs."""
    words = query.split()
    signs = '"' in query or any(word.startswith("-") for word in words)
    return query if signs else " or ".join(words)


OPERATIONS = (
    Operation(epic_create, "POST /epics", toolset="planning"),
    Operation(epic_list, "GET /epics", toolset="planning"),
    Operation(epic_get, "GET /epics/{epic}", toolset="planning", resource="bmad://epics/{epic}"),
    Operation(story_create, "POST /stories"),
    Operation(story_list, "GET /stories", resource="bmad://stories", alone=always),
    Operation(story_next, "GET /stories/next", alone=always),
    Operation(
        story_get, "GET /stories/{story}", resource="bmad://stories/{story}", markdown=story_markdown, alone=always
    ),
    Operation(story_update, "PATCH /stories/{story}"),
    Operation(gate_record, "POST /gates", toolset="quality"),
    Operation(gate_get, "GET /gates/{story}", toolset="quality"),
)
