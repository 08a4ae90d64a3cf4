"""A project as a board, for writers of other trackers."""

from collections.abc import Mapping
from typing import Any

from bmad_mcp.call import OpenProject
from bmad_mcp.interchange.snapshot import snapshot
from bmad_mcp.interchange.values import Board, Item, Part, State
from bmad_mcp.lifecycles import StoryStatus, TaskStatus

SOURCE = "bmad-mcp"
EPICS = """
SELECT key, title, goal, status::text AS status FROM bmad_epics WHERE project_id = bmad_project() ORDER BY number, key
"""
STORIES = """
SELECT s.key, s.title, s.status::text AS status, s.priority::text AS priority, s.acceptance, s.sections, e.key AS epic
FROM bmad_stories s JOIN bmad_epics e ON e.project_id = s.project_id AND e.id = s.epic_id
WHERE s.project_id = bmad_project() ORDER BY s.epic_number, s.number, s.suffix
"""
TASKS = """
SELECT 'T-' || t.number AS key, t.title, t.description, t.status::text AS status, t.priority::text AS priority, t.agent,
    s.key AS story,
    (SELECT array_agg('T-' || d.number ORDER BY d.number) FROM bmad_task_dependencies x
     JOIN bmad_tasks d ON d.project_id = x.project_id AND d.id = x.depends_on_id
     WHERE x.project_id = t.project_id AND x.task_id = t.id) AS waits_for
FROM bmad_tasks t LEFT JOIN bmad_stories s ON s.project_id = t.project_id AND s.id = t.story_id
WHERE t.project_id = bmad_project() ORDER BY t.number
"""
_OF_STORY: Mapping[str, State] = {
    StoryStatus.DRAFT: "draft",
    StoryStatus.READY: "open",
    StoryStatus.IN_PROGRESS: "in_progress",
    StoryStatus.REVIEW: "review",
    StoryStatus.DONE: "done",
    StoryStatus.CANCELLED: "cancelled",
}
_OF_TASK: Mapping[str, State] = {
    TaskStatus.PENDING: "open",
    TaskStatus.ACTIVE: "in_progress",
    TaskStatus.IN_PROGRESS: "in_progress",
    TaskStatus.REVIEW: "review",
    TaskStatus.COMPLETED: "done",
    TaskStatus.BLOCKED: "blocked",
    TaskStatus.CANCELLED: "cancelled",
}


async def project_board(opened: OpenProject) -> Board:
    """The epics, stories and tasks of a project as they are at one moment, under their short keys."""
    async with snapshot(opened) as view:
        items = [_epic(row) async for row in view.rows(EPICS)]
        items += [_story(row) async for row in view.rows(STORIES, 100)]
        items += [_task(row) async for row in view.rows(TASKS)]
    return Board(SOURCE, opened.key, tuple(items))


def _epic(row: Mapping[str, Any]) -> Item:
    return Item(
        ref=f"E-{row['key']}",
        title=row["title"],
        status=row["status"],
        state=_OF_STORY[row["status"]],
        kind="epic",
        description=row["goal"],
    )


def _story(row: Mapping[str, Any]) -> Item:
    texts = {one["name"]: one["text"].strip() for one in row["sections"]}
    return Item(
        ref=row["key"],
        title=row["title"],
        status=row["status"],
        state=_OF_STORY[row["status"]],
        kind="story",
        parent=f"E-{row['epic']}",
        priority=row["priority"],
        description=texts.pop("Story", ""),
        acceptance=tuple(str(one) for one in row["acceptance"]),
        parts=tuple(Part(name, text) for name, text in texts.items() if text and name != "Acceptance Criteria"),
    )


def _task(row: Mapping[str, Any]) -> Item:
    return Item(
        ref=row["key"],
        title=row["title"],
        status=row["status"],
        state=_OF_TASK[row["status"]],
        parent=row["story"],
        priority=row["priority"],
        description=row["description"],
        assignees=(row["agent"],) if row["agent"] else (),
        depends_on=tuple(row["waits_for"] or ()),
    )
