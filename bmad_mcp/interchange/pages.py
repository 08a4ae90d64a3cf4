"""A project as Markdown that people read: an index, a page for each kind of thing, a file for each story."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from bmad_mcp.bmad_files.epics import slug
from bmad_mcp.bmad_files.writing.new_files import GATE_KEYS
from bmad_mcp.bmad_files.writing.run_files import run_text
from bmad_mcp.interchange.paths import Names
from bmad_mcp.interchange.readable import with_people
from bmad_mcp.interchange.snapshot import DOCUMENTS_AT_ONCE, TABLES, Snapshot
from bmad_mcp.lifecycles import TASK_HELD
from bmad_mcp.progress import Progress
from bmad_mcp.shapes import one_line
from bmad_mcp.stories.sections import bare
from bmad_mcp.stories.wording import acceptance_list, story_sentence

Row = Mapping[str, Any]

EPICS = """
SELECT e.key, e.title, e.goal, e.status::text AS status,
    (SELECT jsonb_agg(jsonb_build_object('key', s.key, 'title', s.title, 'status', s.status)
        ORDER BY s.number, s.suffix)
     FROM bmad_stories s WHERE s.project_id = e.project_id AND s.epic_id = e.id) AS stories
FROM bmad_epics e WHERE e.project_id = bmad_project() ORDER BY e.number, e.key
"""
STORIES = """
SELECT s.key, s.title, s.status::text AS status, s.raw_status, s.priority::text AS priority, s.points, s.role, s.want,
    s.benefit, s.acceptance, s.sections, s.gate, s.source_path, s.tracker_key, s.tracker_status,
    (SELECT jsonb_agg(jsonb_build_object('key', 'T-' || t.number, 'title', t.title, 'status', t.status)
        ORDER BY t.number)
     FROM bmad_tasks t WHERE t.project_id = s.project_id AND t.story_id = s.id) AS tasks
FROM bmad_stories s WHERE s.project_id = bmad_project() ORDER BY s.epic_number, s.number, s.suffix
"""
TASKS = f"""
SELECT 'T-' || t.number AS key, t.title, t.description, t.status::text AS status, t.priority::text AS priority,
    t.agent, CASE WHEN {TASK_HELD} THEN t.lease_agent END AS held_by, t.note, t.summary, t.quality, t.source_ref, s.key AS story,
    (SELECT string_agg('T-' || d.number, ', ' ORDER BY d.number) FROM bmad_task_dependencies e
     JOIN bmad_tasks d ON d.project_id = e.project_id AND d.id = e.depends_on_id
     WHERE e.project_id = t.project_id AND e.task_id = t.id) AS waits_for
FROM bmad_tasks t LEFT JOIN bmad_stories s ON s.project_id = t.project_id AND s.id = t.story_id
WHERE t.project_id = bmad_project() ORDER BY t.number
"""
WORKFLOWS = """
SELECT 'W-' || w.number AS key, w.title, w.type::text AS type, w.definition, w.status::text AS status, w.reason,
    (SELECT jsonb_agg(to_jsonb(g) ORDER BY g.position, g.iteration) FROM bmad_workflow_stages g
     WHERE g.project_id = w.project_id AND g.workflow_id = w.id) AS stages
FROM bmad_workflows w WHERE w.project_id = bmad_project() ORDER BY w.number
"""
HANDOFFS = """
SELECT 'H-' || c.number AS key, c.id, c.from_agent, c.to_agent, c.note, c.status, c.accepted_by,
    (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.project_id = c.project_id AND t.id = c.task_id) AS task,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = c.project_id AND s.id = c.story_id) AS story
FROM bmad_agent_collaborations c WHERE c.project_id = bmad_project() ORDER BY c.number
"""
AGENTS = """
SELECT a.name, a.display_name, a.title, a.status::text AS status, a.when_to_use, a.persona, a.commands, a.source,
    (SELECT jsonb_agg(jsonb_build_object('id', x.id, 'from', x.started_at, 'to', x.ended_at, 'caller', x.caller, 'focus', x.focus,
        'summary', x.summary) ORDER BY x.started_at)
     FROM bmad_agent_sessions x WHERE x.project_id = a.project_id AND x.agent_id = a.id) AS sessions
FROM bmad_agents a WHERE a.project_id = bmad_project() ORDER BY a.name
"""
TEMPLATES = """
SELECT kind, name, title, edition, source FROM bmad_templates WHERE project_id = bmad_project() ORDER BY kind, name
"""
CHECKLISTS = "SELECT name, title, items, runs FROM bmad_checklists WHERE project_id = bmad_project() ORDER BY name"
MEMORIES = """
SELECT id, text, category, agent, author_kind, to_char(created_at, 'YYYY-MM-DD HH24:MI') AS at FROM mcp_memories
WHERE project_id = bmad_project() ORDER BY category, created_at, id
"""
DOCUMENTS = """
SELECT 'A-' || a.number AS key, a.kind, a.title, a.path, a.content, a.encoding, a.agent,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = a.project_id AND s.id = a.story_id) AS story
FROM bmad_artifacts a WHERE a.project_id = bmad_project() ORDER BY a.number
"""
ACTIVITY = """
SELECT to_char(at, 'YYYY-MM') AS month, to_char(at, 'YYYY-MM-DD HH24:MI:SS') AS at, operation, subject, agent,
    principal, detail::text AS detail
FROM bmad_agent_activity WHERE project_id = bmad_project() ORDER BY bmad_agent_activity.at, id
"""
ACTIVITY_AT_ONCE = 500


async def write_pages(view: Snapshot, at: Path, tell: Progress) -> dict[str, int]:
    """Write every page below a folder; how many things of each table they tell."""
    pages = _Pages(view, at, tell)
    await pages.epics()
    await pages.stories()
    await pages.listed("tasks", "bmad_tasks", "Tasks", TASKS, _task)
    await pages.listed("workflows", "bmad_workflows", "Workflows", WORKFLOWS, _workflow)
    await pages.listed("handoffs", "bmad_agent_collaborations", "Handoffs", HANDOFFS, _handoff)
    await pages.listed("agents", "bmad_agents", "Agents", AGENTS, _agent)
    await pages.listed("definitions", "bmad_templates", "Templates and other definitions", TEMPLATES, _template)
    await pages.listed("checklists", "bmad_checklists", "Checklists", CHECKLISTS, _checklist)
    await pages.listed("memories", "mcp_memories", "Memories", MEMORIES, _memory)
    await pages.documents()
    await pages.activity()
    await pages.index()
    return pages.counts


class _Pages:
    def __init__(self, view: Snapshot, at: Path, tell: Progress) -> None:
        self._view, self._at, self._tell = view, at, tell
        self.counts: dict[str, int] = {}
        self._links: list[tuple[str, str, int]] = []

    def _counted(self, table: str, heading: str, link: str, count: int) -> None:
        self.counts[table] = count
        self._links.append((heading, link, count))
        self._tell(f"{heading.lower()}: {count:,}")

    async def _file(self, path: str, text: str) -> None:
        await asyncio.to_thread(_write, self._at / path, text)

    async def epics(self) -> None:
        parts, count = ["# Epics\n"], 0
        async for row in self._view.rows(EPICS, 100):
            parts.append("\n".join(_epic(row)))
            count += 1
        await self._file("epics.md", "\n".join(parts) + "\n")
        self._counted("bmad_epics", "Epics", "epics.md", count)

    async def stories(self) -> None:
        """A file for each story, named by its key alone: keys are unique, titles change."""
        listed, count = ["# Stories\n", "| story | title | status |", "|---|---|---|"], 0
        (self._at / "stories").mkdir()
        async for row in self._view.rows(STORIES, DOCUMENTS_AT_ONCE):
            await self._file(f"stories/{row['key']}.md", "\n".join(_story(row)) + "\n")
            listed.append(_cells(f"[{row['key']}](stories/{row['key']}.md)", row["title"], row["status"]))
            count += 1
        await self._file("stories.md", "\n".join(listed) + "\n")
        self._counted("bmad_stories", "Stories", "stories.md", count)

    async def listed(self, name: str, table: str, heading: str, sql: str, told: Callable[[Row], Iterator[str]]) -> None:
        """One page with a part for each row."""
        count = 0
        with await asyncio.to_thread(_opened, self._at / f"{name}.md") as file:
            file.write(f"# {heading}\n\n")
            async for batch in self._view.batches(sql, TABLES[table].batch):
                rows = [await self._view.readable(table, row) for row in batch]
                text = "".join("\n".join(told(row)) + "\n\n" for row in rows)
                await asyncio.to_thread(file.write, text)
                count += len(batch)
        self._counted(table, heading, f"{name}.md", count)

    async def documents(self) -> None:
        """Every document under its own path, and a page that tells which is which."""
        names, count = Names(), 0
        listed = ["# Documents\n", "| document | kind | story | path in the project | file |", "|---|---|---|---|---|"]
        async for row in self._view.rows(DOCUMENTS, DOCUMENTS_AT_ONCE):
            place = names.take(row["path"] or f"{row['key']}-{slug(row['title'])[:60]}.md", row["key"])
            await asyncio.to_thread(_write_bytes, self._at / "documents" / place, _content(row))
            listed.append(
                _cells(row["key"], row["kind"], row["story"], row["path"] or row["title"], f"documents/{place}")
            )
            count += 1
        await self._file("documents.md", "\n".join(listed) + "\n")
        self._counted("bmad_artifacts", "Documents", "documents.md", count)

    async def activity(self) -> None:
        """What happened, a file for each month."""
        months: dict[str, int] = {}
        async for month, text, rows in _months(self._activity()):
            path = self._at / "activity" / f"{month}.md"
            await asyncio.to_thread(_append, path, text if month in months else _ACTIVITY_HEAD.format(month) + text)
            months[month] = months.get(month, 0) + rows
        links = [f"- [{month}](activity/{month}.md): {rows:,}" for month, rows in months.items()]
        await self._file("activity.md", "\n".join(["# Activity\n", *links]) + "\n")
        self._counted("bmad_agent_activity", "Activity", "activity.md", sum(months.values()))

    async def _activity(self) -> AsyncIterator[list[Row]]:
        names = await self._view.people()
        async for batch in self._view.batches(ACTIVITY, ACTIVITY_AT_ONCE):
            yield [with_people("bmad_agent_activity", row, names) for row in batch]

    async def index(self) -> None:
        """The page to begin with."""
        lines = [f"# {one_line(self._view.opened.key)}", "", "| | |", "|---|---|"]
        lines += [_cells(f"[{heading}]({link})", f"{count:,}") for heading, link, count in self._links]
        lines += ["", "This is for reading. An export as JSON holds every column of every row."]
        await self._file("index.md", "\n".join(lines) + "\n")


_ACTIVITY_HEAD = "# Activity of {}\n\n| at | what | subject | agent | by | detail |\n|---|---|---|---|---|---|\n"


async def _months(batches: AsyncIterator[list[Row]]) -> AsyncIterator[tuple[str, str, int]]:
    """The rows of activity as table lines, so many of one month at a time."""
    async for batch in batches:
        lines: dict[str, list[str]] = {}
        for row in batch:
            cells = (row["at"], row["operation"], row["subject"], row["agent"], row["principal"], row["detail"])
            lines.setdefault(row["month"], []).append(_cells(*cells))
        for month, told in lines.items():
            yield month, "\n".join(told) + "\n", len(told)


def _cells(*values: object) -> str:
    cells = ("" if value is None else one_line(str(value)).replace("|", "\\|") for value in values)
    return f"| {' | '.join(cells)} |"


def _facts(more: Mapping[str, object] = {}, /, **named: object) -> list[str]:
    told = [f"- {name.replace('_', ' ')}: {_plain(value)}" for name, value in (*named.items(), *more.items()) if value]
    return [*told, ""] if told else []


def _plain(value: object) -> str:
    return one_line("; ".join(map(str, value)) if isinstance(value, list) else str(value))


def _epic(row: Row) -> Iterator[str]:
    yield f"## Epic {row['key']}: {one_line(row['title'])}\n"
    yield f"Status: {row['status']}\n"
    if row["goal"].strip():
        yield bare(row["goal"]) + "\n"
    for story in row["stories"] or ():
        yield f"- [{story['key']}](stories/{story['key']}.md) {one_line(story['title'])} ({story['status']})"
    yield ""


def _story(row: Row) -> Iterator[str]:
    yield f"# Story {row['key']}: {one_line(row['title'])}\n"
    yield from _facts(
        status=row["status"],
        status_in_the_file=row["raw_status"],
        tracker=row["tracker_status"],
        priority=row["priority"],
        points=row["points"],
        file=row["source_path"],
    )
    names = {one["name"] for one in row["sections"]}
    if "Story" not in names and (sentence := story_sentence(row["role"], row["want"], row["benefit"])):
        yield f"## Story\n\n{sentence}\n"
    if "Acceptance Criteria" not in names and row["acceptance"]:
        yield f"## Acceptance Criteria\n\n{acceptance_list([str(one) for one in row['acceptance']])}\n"
    for section in row["sections"]:
        level = min(max(int(section["level"]), 2), 6)
        yield f"{'#' * level} {one_line(section['name'])}\n\n{bare(section['text'])}\n"
    if row["gate"]:
        yield "## Gate\n"
        yield from (
            f"- {theirs}: {one_line(str(row['gate'][ours]))}" for ours, theirs in GATE_KEYS if row["gate"].get(ours)
        )
        yield ""
    if row["tasks"]:
        yield "## Tasks here\n"
        for task in row["tasks"]:
            mark = "x" if task["status"] == "completed" else " "
            yield f"- [{mark}] {task['key']} {one_line(task['title'])} ({task['status']})"


def _task(row: Row) -> Iterator[str]:
    yield f"## {row['key']} {one_line(row['title'])}\n"
    yield from _facts(
        status=row["status"],
        priority=row["priority"],
        role=row["agent"],
        held_by=row["held_by"],
        story=row["story"],
        waits_for=row["waits_for"],
        quality=row["quality"],
        source=row["source_ref"],
    )
    for text in (row["description"], row["note"], row["summary"]):
        if text and text.strip():
            yield bare(text) + "\n"


def _workflow(row: Row) -> Iterator[str]:
    yield f"## {row['key']} {one_line(row['title'])}\n"
    yield from _facts(status=row["status"], type=row["type"], definition=row["definition"], reason=row["reason"])
    if row["stages"]:
        yield "| stage | round | story | agent | what | status | note |\n|---|---|---|---|---|---|---|"
    for stage in row["stages"] or ():
        what = stage["action"] or stage["step"] or stage["creates"] or stage["kind"]
        note = stage["note"] or stage["outcome"]
        yield _cells(
            stage["position"], stage["iteration"], stage["story_key"], stage["agent"], what, stage["status"], note
        )


def _handoff(row: Row) -> Iterator[str]:
    yield f"## {row['key']} {row['from_agent']} → {row['to_agent']}\n"
    yield from _facts(status=row["status"], accepted_by=row["accepted_by"], task=row["task"], story=row["story"])
    yield bare(row["note"])


def _agent(row: Row) -> Iterator[str]:
    yield f"## {row['name']}: {one_line(row['display_name'])}, {one_line(row['title'])}\n"
    yield from _facts(row["persona"], status=row["status"], source=row["source"], when_to_use=row["when_to_use"])
    for command in row["commands"]:
        told = command if isinstance(command, dict) else {"name": command}
        yield f"- `{one_line(str(told.get('name', '')))}` {one_line(str(told.get('description') or ''))}".rstrip()
    for one in row["sessions"] or ():
        about = one_line(one["summary"] or one["focus"] or "")
        yield f"- session from {one['from']} to {one['to'] or 'now'}, {one_line(one['caller'])}: {about}"


def _template(row: Row) -> Iterator[str]:
    yield f"- {row['kind']} `{row['name']}`: {one_line(row['title'])} ({row['source']})"


def _checklist(row: Row) -> Iterator[str]:
    yield f"## {row['name']}: {one_line(row['title'])}\n"
    for item in row["items"]:
        yield f"- [ ] {one_line(str(item['text']))}"
    for run in row["runs"]:
        text = run_text(row, run).split("---\n", 2)
        yield f"\n### Run of {one_line(str(run['at']))} on {one_line(str(run['subject']))}\n"
        yield f"```\n{text[1].strip()}\n```\n"
        yield "\n".join(line for line in text[2].splitlines() if not line.startswith("#")).strip()


def _memory(row: Row) -> Iterator[str]:
    by = row["agent"] or row["author_kind"]
    yield f"### {row['category']}, {by}, {row['at']}\n\n{bare(row['text'])}"


def _content(row: Row) -> bytes:
    content = str(row["content"])
    if row["encoding"] == "base64":
        try:
            return base64.b64decode(content)
        except binascii.Error:
            return content.encode()
    return content.encode()


def _opened(path: Path) -> TextIO:
    return path.open("x", encoding="utf-8", newline="")


def _write(path: Path, text: str) -> None:
    with _opened(path) as file:
        file.write(text)


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
