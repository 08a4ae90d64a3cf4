"""What clients were told is done, and whether the database holds exactly that: nothing less, and nothing by half."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

# How the summary begins with which a client tries whether a lease that is over still counts.
LATE = "late "
# Each query names what must not be there; a row it returns is a change that is there by half.
HALF_DONE = {
    "a task without the line of its making, or with two": """
        SELECT t.number FROM bmad_tasks t LEFT JOIN bmad_agent_activity a
            ON a.project_id = t.project_id AND a.subject = 'task T-' || t.number AND a.operation = 'task_create'
        WHERE t.project_id = $1 GROUP BY t.number HAVING count(a.id) <> 1""",
    "a line of a task that is not there": """
        SELECT a.subject FROM bmad_agent_activity a WHERE a.project_id = $1 AND a.subject LIKE 'task T-%'
            AND NOT EXISTS (SELECT FROM bmad_tasks t WHERE t.project_id = $1 AND 'task T-' || t.number = a.subject)""",
    "a version that is not one more than before with each line": """
        SELECT t.number, t.version, count(a.id) FROM bmad_tasks t LEFT JOIN bmad_agent_activity a
            ON a.project_id = t.project_id AND a.subject = 'task T-' || t.number
        WHERE t.project_id = $1
            AND NOT EXISTS (SELECT FROM bmad_task_dependencies d WHERE d.project_id = $1 AND d.task_id = t.id)
        GROUP BY t.number, t.version HAVING t.version <> count(a.id)""",
    "a lease that was not counted once with each claim": """
        SELECT t.number, t.lease, count(a.id) FROM bmad_tasks t LEFT JOIN bmad_agent_activity a
            ON a.project_id = t.project_id AND a.subject = 'task T-' || t.number AND a.operation = 'task_claim'
        WHERE t.project_id = $1 GROUP BY t.number, t.lease HAVING t.lease <> count(a.id)""",
    "a task that is completed without its line, or twice": """
        SELECT t.number FROM bmad_tasks t LEFT JOIN bmad_agent_activity a
            ON a.project_id = t.project_id AND a.subject = 'task T-' || t.number AND a.operation = 'task_complete'
        WHERE t.project_id = $1 GROUP BY t.number, t.status HAVING count(a.id) <> (t.status = 'completed')::int""",
    "a summary that is not remembered once": """
        SELECT t.summary FROM bmad_tasks t LEFT JOIN mcp_memories m
            ON m.project_id = t.project_id AND split_part(m.text, chr(10), 1) = t.summary
        WHERE t.project_id = $1 AND t.summary IS NOT NULL GROUP BY t.number, t.summary HAVING count(m.id) <> 1""",
    "a task that waits for another number than is open": """
        SELECT t.number FROM bmad_tasks t WHERE t.project_id = $1 AND t.open_dependencies <> (
            SELECT count(*) FROM bmad_task_dependencies d JOIN bmad_tasks o ON o.project_id = $1
                AND o.id = d.depends_on_id AND o.status NOT IN ('completed', 'cancelled')
            WHERE d.project_id = $1 AND d.task_id = t.id)""",
    "a counter that is not the number of tasks": """
        SELECT c.value FROM mcp_counters c WHERE c.project_id = $1 AND c.kind = 'task'
            AND (c.value <> (SELECT count(*) FROM bmad_tasks WHERE project_id = $1)
                OR c.value <> (SELECT max(number) FROM bmad_tasks WHERE project_id = $1))""",
    "a key that is remembered without its result": """
        SELECT key FROM mcp_idempotency WHERE project_id = $1 AND result IS NULL""",
    "a kept count that is not that of the rows": """
        SELECT * FROM bmad_miscounts() WHERE $1::uuid IS NOT NULL""",
    # Also where the answer was lost: clients write this only when their lease is surely over.
    "a task that was finished under a lease that was over": f"""
        SELECT number FROM bmad_tasks WHERE project_id = $1 AND summary LIKE '{LATE}%'""",
    "a title that is there twice": """
        SELECT title FROM bmad_tasks WHERE project_id = $1 GROUP BY title HAVING count(*) > 1""",
}
TASKS = (
    "SELECT number, title, status::text AS status, version, note, summary, lease FROM bmad_tasks WHERE project_id = $1"
)
NOTES = """
SELECT subject, detail ->> 'note' AS note FROM bmad_agent_activity WHERE project_id = $1 AND operation = 'task_update'
"""


@dataclass
class Ledger:
    """What clients were told: task keys by title, versions, notes and completions. Keys are like `T-7`."""

    made: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)
    completed: dict[str, tuple[int, str]] = field(default_factory=dict)
    claimed: dict[tuple[str, int], str] = field(default_factory=dict)
    # Whoever lost the task and was let in all the same.
    stale: list[str] = field(default_factory=list)
    refused_stale: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def acknowledged(self) -> int:
        """How many changes were."""
        return len(self.made) + len(self.notes) + len(self.completed) + len(self.claimed)

    def saw(self, task: dict[str, Any]) -> None:
        """Note the version that an answer told of."""
        self.versions[task["key"]] = max(self.versions.get(task["key"], 0), task["version"])

    def took(self, task: str, lease: int, by: str) -> None:
        """Note a claim; the same lease for two is a lease that holds nothing."""
        if (task, lease) in self.claimed:
            self.stale.append(f"{task} was given to {self.claimed[task, lease]} and to {by} under lease {lease}")
        self.claimed[task, lease] = by

    async def check(self, connection: asyncpg.Connection, project: str) -> None:
        """Fails with what is lost, there by half, or let in too late. Changes on their way are there whole or not."""
        # What is acknowledged after this may be missing from the snapshot.
        made, notes, completed = dict(self.made), list(self.notes), dict(self.completed)
        versions, claimed = dict(self.versions), dict(self.claimed)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            project_id = await connection.fetchval("SELECT id FROM bmad_projects WHERE key = $1", project)
            await connection.execute("SELECT set_config('app.project', $1, true)", str(project_id))
            tasks = {f"T-{row['number']}": row for row in await connection.fetch(TASKS, project_id)}
            noted = Counter(
                (row["subject"].removeprefix("task "), row["note"]) for row in await connection.fetch(NOTES, project_id)
            )
            halves = {what: await connection.fetch(sql, project_id) for what, sql in HALF_DONE.items()}
        lost = [title for title, key in made.items() if key not in tasks or tasks[key]["title"] != title]
        assert not lost, f"acknowledged and lost: {lost}"
        lost += [f"{key} at version {version}" for key, version in versions.items() if tasks[key]["version"] < version]
        lost += [f"{key}: {note}" for key, note in notes if noted[key, note] != 1]
        lost += [f"{key} under lease {lease}" for key, lease in claimed if tasks[key]["lease"] < lease]
        lost += [
            f"{key} completed under lease {lease}"
            for key, (lease, summary) in completed.items()
            if (tasks[key]["status"], tasks[key]["lease"], tasks[key]["summary"]) != ("completed", lease, summary)
        ]
        assert not lost, f"acknowledged and lost: {lost}"
        assert not any(halves.values()), f"there by half: { {what: rows for what, rows in halves.items() if rows} }"
        assert not self.stale, f"let in with a lease that was over: {self.stale}"
