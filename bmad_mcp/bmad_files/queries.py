"""SQL of the import: what is stored, and one statement for all rows of a kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bmad_mcp.activity.record import COLUMNS
from bmad_mcp.lifecycles import STORY, TASK, Lifecycle

# One import at a time in a project; calls by tools go on.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('bmad import ' || bmad_project(), 0))"


@dataclass(frozen=True, slots=True)
class Bulk:
    """A table as the import writes it: its columns with their SQL types, in the order of the parameters.

    `jsonb` and `names` (a text array) travel as JSON texts, because an array of arrays must be rectangular.
    """

    table: str
    columns: Mapping[str, str]
    lifecycle: Lifecycle | None = None
    fixed: frozenset[str] = field(default=frozenset())
    versioned: bool = True

    @property
    def changing(self) -> tuple[str, ...]:
        """The columns that an update may change."""
        return tuple(name for name in self.columns if name not in self.fixed)

    def insert_sql(self) -> str:
        """An INSERT of many rows; each parameter is the array of one column."""
        names = ", ".join(self.columns)
        arrays = _arrays(self.columns.values(), first=1)
        values = ", ".join(_value(name, kind) for name, kind in self.columns.items())
        again = "" if self.versioned else " ON CONFLICT DO NOTHING"
        return (
            f"INSERT INTO {self.table} (project_id, {names}) SELECT bmad_project(), {values}"
            f" FROM unnest({arrays}) AS v({names}){again}"
        )

    def update_sql(self, *more: str) -> str:
        """An UPDATE of many rows by id and the version they were read at; returns the ids that it changed.

        `more` are further assignments.
        """
        names = self.changing
        arrays = _arrays((self.columns[name] for name in names), first=3)
        assignments = [
            self.lifecycle.set_from_parameter_sql("v.status")
            if name == "status" and self.lifecycle
            else f"{name} = {_value(name, self.columns[name])}"
            for name in names
        ]
        assignments += [*more, "updated_at = now()", "version = t.version + 1"]
        return (
            f"UPDATE {self.table} AS t SET {', '.join(assignments)}"
            f" FROM unnest($1::uuid[], $2::int[], {arrays}) AS v(id, expected, {', '.join(names)})"
            " WHERE t.project_id = bmad_project() AND t.id = v.id AND t.version = v.expected RETURNING t.id"
        )


_SENT = {"jsonb": "text", "names": "text", "tsvector": "text", "story_status": "text", "task_status": "text"}


def _arrays(kinds: object, *, first: int) -> str:
    return ", ".join(f"${position}::{_SENT.get(kind, kind)}[]" for position, kind in enumerate(kinds, start=first))  # type: ignore[arg-type,var-annotated]


def _value(name: str, kind: str) -> str:
    match kind:
        case "jsonb":
            return f"v.{name}::jsonb"
        case "names":
            return f"ARRAY(SELECT jsonb_array_elements_text(v.{name}::jsonb))"
        case "tsvector":
            return f"v.{name}::tsvector"
        case "story_status" | "task_status":
            return f"v.{name}::bmad_{kind}"
        case _:
            return f"v.{name}"


_DEFINITION = {"source": "text", "source_path": "text", "content": "text", "content_hash": "text"}

AGENTS = Bulk(
    "bmad_agents",
    {
        "name": "text",
        "aliases": "names",
        "display_name": "text",
        "title": "text",
        "icon": "text",
        "when_to_use": "text",
        "persona": "jsonb",
        "commands": "jsonb",
        "dependencies": "jsonb",
        **_DEFINITION,
    },
)
TEMPLATES = Bulk(
    "bmad_templates",
    {"kind": "text", "name": "text", "title": "text", "edition": "text", "body": "jsonb", **_DEFINITION},
)
CHECKLISTS = Bulk("bmad_checklists", {"name": "text", "title": "text", "items": "jsonb", **_DEFINITION})
EPICS = Bulk(
    "bmad_epics",
    {
        "id": "uuid",
        "key": "text",
        "number": "int",
        "title": "text",
        "goal": "text",
        "status": "story_status",
        "raw_status": "text",
        "source_path": "text",
        "extra": "jsonb",
    },
    STORY,
    frozenset({"id", "key", "number"}),
)
STORIES = Bulk(
    "bmad_stories",
    {
        "id": "uuid",
        "epic_id": "uuid",
        "key": "text",
        "epic_number": "int",
        "number": "int",
        "suffix": "text",
        "title": "text",
        "role": "text",
        "want": "text",
        "benefit": "text",
        "acceptance": "jsonb",
        "sections": "jsonb",
        "status": "story_status",
        "raw_status": "text",
        "tracker_key": "text",
        "tracker_status": "text",
        "gate": "jsonb",
        "source_path": "text",
        "content_hash": "text",
        "extra": "jsonb",
    },
    STORY,
    frozenset({"id", "epic_id", "key", "epic_number", "number", "suffix"}),
)
TASKS = Bulk(
    "bmad_tasks",
    {
        "id": "uuid",
        "number": "int",
        "title": "text",
        "description": "text",
        "status": "task_status",
        "raw_status": "text",
        "agent": "text",
        "story_id": "uuid",
        "open_dependencies": "int",
        "story_open": "boolean",
        "source": "text",
        "source_ref": "text",
    },
    TASK,
    frozenset({"id", "number", "agent", "story_id", "open_dependencies", "source"}),
)
ARTIFACTS = Bulk(
    "bmad_artifacts",
    {
        "number": "int",
        "kind": "text",
        "title": "text",
        "path": "text",
        "content": "text",
        "encoding": "text",
        "content_hash": "text",
        "file_hash": "text",
        "generation": "text",
        "source": "text",
        "story_id": "uuid",
    },
    fixed=frozenset({"number", "path", "story_id"}),
)
MEMORIES = Bulk(
    "mcp_memories",
    {
        "id": "uuid",
        "text": "text",
        "category": "text",
        "agent": "text",
        "author_kind": "text",
        "principal": "text",
        "identifiers": "names",
        "search": "tsvector",
        "text_mark": "text",
    },
    versioned=False,
)

ADD_AGENTS = AGENTS.insert_sql()
CHANGE_AGENTS = AGENTS.update_sql()
ADD_TEMPLATES = TEMPLATES.insert_sql()
CHANGE_TEMPLATES = TEMPLATES.update_sql()
ADD_CHECKLISTS = CHECKLISTS.insert_sql()
CHANGE_CHECKLISTS = CHECKLISTS.update_sql()
ADD_EPICS = EPICS.insert_sql()
CHANGE_EPICS = EPICS.update_sql()
ADD_STORIES = STORIES.insert_sql()
CHANGE_STORIES = STORIES.update_sql(
    "completed_at = CASE WHEN v.status = 'done' AND t.status <> 'done' THEN now() ELSE t.completed_at END"
)
ADD_TASKS = TASKS.insert_sql()
# A task that the files close is held by nobody.
CHANGE_TASKS = TASKS.update_sql(
    """completed_at = CASE WHEN v.status = 'completed' AND t.status <> 'completed' THEN now()
        ELSE t.completed_at END""",
    "lease_until = CASE WHEN v.status IN ('completed', 'cancelled') THEN NULL ELSE t.lease_until END",
)
ADD_ARTIFACTS = ARTIFACTS.insert_sql()
CHANGE_ARTIFACTS = ARTIFACTS.update_sql()
ADD_MEMORIES = MEMORIES.insert_sql()

ADD_WAITING = """
INSERT INTO bmad_task_dependencies (project_id, task_id, depends_on_id)
SELECT bmad_project(), v.task_id, v.depends_on_id FROM unnest($1::uuid[], $2::uuid[]) AS v(task_id, depends_on_id)
ON CONFLICT DO NOTHING
"""
# Counted afresh, whatever was added or closed: of the tasks in $1, and of those that wait for the tasks in $2.
COUNT_WAITING = """
WITH counted AS (
    SELECT t.id, t.version, t.open_dependencies AS before, (
        SELECT count(*) FROM bmad_task_dependencies e
        JOIN bmad_tasks d ON d.project_id = e.project_id AND d.id = e.depends_on_id
        WHERE e.project_id = t.project_id AND e.task_id = t.id AND d.status NOT IN ('completed', 'cancelled')
    ) AS waiting
    FROM bmad_tasks t
    WHERE t.project_id = bmad_project() AND (t.id = ANY($1::uuid[]) OR t.id IN (
        SELECT e.task_id FROM bmad_task_dependencies e
        WHERE e.project_id = bmad_project() AND e.depends_on_id = ANY($2::uuid[])))
)
UPDATE bmad_tasks AS t SET open_dependencies = c.waiting, updated_at = now(), version = t.version + 1
FROM counted c
WHERE t.project_id = bmad_project() AND t.id = c.id AND c.waiting <> c.before
"""
# Tasks that tools made follow their story as well.
TASKS_FOLLOW = """
UPDATE bmad_tasks AS t SET story_open = v.open, updated_at = now(), version = t.version + 1
FROM unnest($1::uuid[], $2::boolean[]) AS v(story_id, open)
WHERE t.project_id = bmad_project() AND t.story_id = v.story_id AND t.story_open <> v.open
"""
NEXT_NUMBERS = """
INSERT INTO mcp_counters AS c (project_id, kind, value) VALUES (bmad_project(), $1, $2)
ON CONFLICT (project_id, kind) DO UPDATE SET value = c.value + $2
RETURNING value - $2 + 1
"""
SET_PROJECT = """
UPDATE bmad_projects AS p SET settings = p.settings || jsonb_build_object('bmad', $1::jsonb), imported_at = now(),
    updated_at = now(), version = p.version + 1
WHERE p.id = bmad_project()
"""
# Written only where something differs: a second import changes nothing.
SET_FILES = """
UPDATE bmad_projects AS p SET settings = p.settings || jsonb_build_object('files',
    coalesce(p.settings -> 'files', '{}') || $1::jsonb)
WHERE p.id = bmad_project()
  AND coalesce(p.settings -> 'files', '{}') || $1::jsonb <> coalesce(p.settings -> 'files', '{}')
"""
FILES = "SELECT settings -> 'files' FROM bmad_projects WHERE id = bmad_project()"
OWN_FILES = """
SELECT path, kind, coalesce(nullif(file_hash, ''), content_hash) AS hash FROM bmad_artifacts
WHERE project_id = bmad_project() AND path IS NOT NULL AND generation <> ''
"""
LAST_EDITOR = """
SELECT agent FROM bmad_agent_activity
WHERE project_id = bmad_project() AND subject = 'story ' || $1::text AND operation = 'story_update'
  AND detail ->> 'section' = $2::text
ORDER BY id DESC LIMIT 1
"""
KEEP_COPY = """
INSERT INTO bmad_artifacts (project_id, number, kind, title, content, content_hash, story_id)
SELECT bmad_project(), $1::int, 'conflict-copy', $2::text, $3::text, $4::text,
    (SELECT id FROM bmad_stories WHERE project_id = bmad_project() AND key = $5::text)
"""
# The newest changes to what files tell; imports and exports themselves do not count.
RECENT_CHANGES = """
SELECT id FROM bmad_agent_activity
WHERE project_id = bmad_project() AND at > now() - make_interval(secs => $1::float)
  AND operation NOT IN ('project_import', 'project_export', 'task_heartbeat')
  AND split_part(subject, ' ', 1) IN ('story', 'task', 'epic', 'artifact', 'checklist')
"""
RECORD = f"""
INSERT INTO bmad_agent_activity {COLUMNS} VALUES (bmad_project(), $1, 'project', NULL, $2, $3, $4)
"""

STORED_AGENTS = """
SELECT id, version, name, aliases, display_name, title, icon, when_to_use, persona, commands, dependencies, source,
    source_path, content_hash
FROM bmad_agents WHERE project_id = bmad_project() ORDER BY name
"""
STORED_TEMPLATES = """
SELECT id, version, kind, name, title, edition, body, source, source_path, content_hash
FROM bmad_templates WHERE project_id = bmad_project() ORDER BY kind, name
"""
STORED_CHECKLISTS = """
SELECT id, version, name, title, items, source, source_path, content_hash
FROM bmad_checklists WHERE project_id = bmad_project() ORDER BY name
"""
STORED_EPICS = """
SELECT id, version, key, number, title, goal, status::text AS status, raw_status, source_path, extra
FROM bmad_epics WHERE project_id = bmad_project() ORDER BY number, key
"""
# Long columns only of the stories whose files say something new: $1 are keys, $2 the fingerprints they have now.
STORED_STORIES = """
SELECT s.id, s.version, s.key, s.status::text AS status, s.source_path, s.extra -> 'imported' AS imported,
    f.fresh, CASE WHEN f.fresh THEN to_jsonb(s) - 'search' END AS row,
    (SELECT count(*) FROM bmad_tasks t
     WHERE t.project_id = s.project_id AND t.story_id = s.id AND t.source = 'import') AS tasks
FROM bmad_stories s
LEFT JOIN unnest($1::text[], $2::text[]) AS v(key, fingerprint) ON v.key = s.key
CROSS JOIN LATERAL (
    SELECT v.key IS NOT NULL AND v.fingerprint IS DISTINCT FROM s.extra -> 'imported' ->> 'whole' AS fresh) AS f
WHERE s.project_id = bmad_project()
ORDER BY s.epic_number, s.number, s.suffix
"""
STORED_TASKS = """
SELECT t.id, t.version, t.number, t.story_id, t.title, t.description, t.status::text AS status, t.raw_status, t.agent,
    t.story_open, t.source, t.source_ref, t.lease, t.lease_agent,
    coalesce(t.lease_until > clock_timestamp(), false) AS held
FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id = ANY($1::uuid[]) ORDER BY t.number
"""
STORED_ARTIFACTS = """
SELECT id, version, number, path, kind, title, encoding, content_hash, file_hash, generation, source,
    content = '' AS is_empty
FROM bmad_artifacts WHERE project_id = bmad_project() AND path IS NOT NULL ORDER BY path
"""
STORED_MEMORIES = "SELECT id FROM mcp_memories WHERE project_id = bmad_project() AND id = ANY($1::uuid[])"
STORED_PROJECT = """
SELECT settings -> 'bmad' AS settings, imported_at IS NOT NULL AS imported FROM bmad_projects WHERE id = bmad_project()
"""

# What an export compares with the files.
HELD_STORIES = """
SELECT s.id, s.version, s.key, s.status::text AS status, s.extra -> 'imported' AS imported,
    jsonb_build_object('title', s.title, 'role', s.role, 'want', s.want, 'benefit', s.benefit,
        'acceptance', s.acceptance, 'sections', s.sections, 'gate', s.gate, 'source_path', s.source_path) AS row,
    s.points IS NOT NULL OR s.priority <> 'medium' AS is_ranked
FROM bmad_stories s WHERE s.project_id = bmad_project()
"""
HELD_TASKS = """
SELECT t.id, t.number, t.story_id, t.title, t.status::text AS status, t.raw_status, t.source, t.source_ref
FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id IS NOT NULL ORDER BY t.number
"""
# The text only of those that a tool wrote.
HELD_ARTIFACTS = """
SELECT number, path, encoding, content_hash, file_hash, source, content = '' AS is_empty,
    CASE WHEN source = 'tool' THEN content ELSE '' END AS content
FROM bmad_artifacts WHERE project_id = bmad_project() AND path IS NOT NULL ORDER BY path
"""
HELD_RUNS = """
SELECT name, title, items, runs FROM bmad_checklists
WHERE project_id = bmad_project() AND runs <> '[]' ORDER BY name
"""
