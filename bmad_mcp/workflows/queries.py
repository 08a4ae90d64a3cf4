"""SQL of workflow runs and their stages."""

from bmad_mcp.artifacts.kinds import is_kept_sql
from bmad_mcp.lifecycles import STAGE, WORKFLOW, StageStatus, WorkflowStatus

DEFINITION = """
SELECT name, title, source, body FROM bmad_templates
WHERE project_id = bmad_project() AND kind = 'workflow' AND name = $1::text
"""
# Those that can be started first: of newer installations many workflows are texts without stages.
DEFINITIONS = """
SELECT * FROM (
    SELECT name AS type, title AS name, source, left(body ->> 'description', 160) AS about, n.stages,
        (n.stages = 0)::int AS empty
    FROM bmad_templates, LATERAL (SELECT CASE jsonb_typeof(body -> 'stages') WHEN 'array'
        THEN jsonb_array_length(body -> 'stages') ELSE 0 END AS stages) n
    WHERE project_id = bmad_project() AND kind = 'workflow') d
WHERE (d.empty, d.type) > ($1::int, $2::text)
ORDER BY d.empty, d.type LIMIT $3::int
"""
DEFINITION_NAMES = """
SELECT array_agg(name ORDER BY name) FROM bmad_templates
WHERE project_id = bmad_project() AND kind = 'workflow' AND body -> 'stages' -> 0 IS NOT NULL
"""
HANDOFF_PROMPT = """
SELECT p.value FROM bmad_templates t,
    jsonb_each_text(CASE jsonb_typeof(t.body -> 'handoff_prompts') WHEN 'object' THEN t.body -> 'handoff_prompts'
        ELSE '{}' END) AS p
WHERE t.project_id = bmad_project() AND t.kind = 'workflow' AND t.name = $1::text AND p.key = ANY($2::text[])
ORDER BY array_position($2::text[], p.key) LIMIT 1
"""
LAST_DONE = """
SELECT agent, updates FROM bmad_workflow_stages
WHERE project_id = bmad_project() AND workflow_id = $1 AND status = 'done' AND agent IS NOT NULL
ORDER BY completed_at DESC, position DESC LIMIT 1
"""
STORY_ID = "SELECT id FROM bmad_stories WHERE project_id = bmad_project() AND key = $1::text"

CREATE = """
INSERT INTO bmad_workflows (project_id, id, number, type, definition, title, story_id, status, started_at)
VALUES (bmad_project(), $1, $2::int, $3::text::bmad_workflow_type, $4::text, $5::text, $6, 'draft', NULL)
"""
BEGIN_RUN = f"""
UPDATE bmad_workflows SET {WORKFLOW.set_sql(WorkflowStatus.ACTIVE)}, started_at = now()
WHERE project_id = bmad_project() AND id = $1 AND {WORKFLOW.may_sql(WorkflowStatus.ACTIVE)}
"""
STAGE_COLUMNS = """position, kind, step, agent, action, creates, updates, validates, uses, requires, optional,
    condition, optional_steps, repeats, routes, notes"""
# A run's story is what its loop begins with; the planning before it is about the whole project.
ADD_STAGES = f"""
INSERT INTO bmad_workflow_stages (project_id, workflow_id, iteration, story_key, {STAGE_COLUMNS})
SELECT bmad_project(), $1, 1, CASE WHEN s.position = ANY($4::int[]) THEN $2::text END,
    s.position, s.kind, s.step, s.agent, s.action, s.creates, s.updates, s.validates, s.uses,
    coalesce(s.requires, '{{}}'), coalesce(s.optional, false), s.condition, coalesce(s.optional_steps, '{{}}'),
    s.repeats, coalesce(s.routes, '{{}}'), coalesce(s.notes, '')
FROM jsonb_to_recordset($3::jsonb) AS s(position int, kind text, step text, agent text, action text, creates text,
    updates text, validates text, uses text, requires text[], optional boolean, condition text, optional_steps text[],
    repeats text, routes jsonb, notes text)
"""
# New instances of stages that are to be done again; their first instances hold the definition.
ADD_AGAIN = f"""
INSERT INTO bmad_workflow_stages (project_id, workflow_id, iteration, story_key, {STAGE_COLUMNS})
SELECT s.project_id, s.workflow_id,
    (SELECT max(n.iteration) + 1 FROM bmad_workflow_stages n WHERE n.project_id = s.project_id
        AND n.workflow_id = s.workflow_id AND n.position = s.position),
    $3::text, s.position, s.kind, s.step, s.agent, s.action, s.creates, s.updates, s.validates, s.uses, s.requires,
    s.optional, s.condition, s.optional_steps, s.repeats, s.routes, s.notes
FROM bmad_workflow_stages s
WHERE s.project_id = bmad_project() AND s.workflow_id = $1 AND s.position = ANY($2::int[]) AND s.iteration = 1
"""
ADD_ROUTE_STAGE = """
INSERT INTO bmad_workflow_stages (project_id, workflow_id, position, iteration, kind, step, agent, action, uses, notes)
SELECT bmad_project(), $1, $2::int, max(n.iteration) + 1, 'agent', $3::text, $4::text, $3::text, $5::text, $6::text
FROM bmad_workflow_stages n WHERE n.project_id = bmad_project() AND n.workflow_id = $1 AND n.position = $2::int
"""
# The stage that is closed and those of its turn that follow; stages of earlier turns are closed and stay.
SET_STORY = """
UPDATE bmad_workflow_stages AS s SET story_key = $2::text, updated_at = now(), version = s.version + 1
FROM bmad_workflow_stages r
WHERE r.project_id = bmad_project() AND r.workflow_id = $1 AND r.iteration = 1 AND r.routes ? 'next_story'
  AND s.project_id = r.project_id AND s.workflow_id = r.workflow_id AND s.status IN ('pending', 'active')
  AND s.position IN (SELECT jsonb_array_elements_text(r.routes -> 'next_story' -> 'again')::int)
"""
SKIP_PENDING = f"""
UPDATE bmad_workflow_stages SET {STAGE.set_sql(StageStatus.SKIPPED)}, outcome = $2::text, updated_at = now(),
    completed_at = now(), version = version + 1
WHERE project_id = bmad_project() AND workflow_id = $1 AND {STAGE.may_sql(StageStatus.SKIPPED)}
"""
SKIP_ACTIVE = f"""
UPDATE bmad_workflow_stages SET {STAGE.set_sql(StageStatus.SKIPPED)}, outcome = $2::text, updated_at = now(),
    completed_at = now(), version = version + 1
WHERE project_id = bmad_project() AND workflow_id = $1 AND status = 'active' AND {STAGE.may_sql(StageStatus.SKIPPED)}
"""
CLOSE_STAGE = f"""
UPDATE bmad_workflow_stages SET {STAGE.set_from_parameter_sql("$2")}, outcome = $3::text, note = $4::text,
    artifact = $5::text, completed_at = now(), updated_at = now(), version = version + 1
WHERE project_id = bmad_project() AND id = $1 AND {STAGE.may_from_parameter_sql("$2")}
RETURNING id
"""
ACTIVATE_NEXT = f"""
UPDATE bmad_workflow_stages SET {STAGE.set_sql(StageStatus.ACTIVE)}, started_at = now(), updated_at = now(),
    version = version + 1
WHERE project_id = bmad_project() AND {STAGE.may_sql(StageStatus.ACTIVE)} AND id = (
    SELECT n.id FROM bmad_workflow_stages n
    WHERE n.project_id = bmad_project() AND n.workflow_id = $1 AND n.status = 'pending'
    ORDER BY n.position, n.iteration LIMIT 1)
RETURNING *
"""
ACTIVE_STAGE = """
SELECT * FROM bmad_workflow_stages
WHERE project_id = bmad_project() AND workflow_id = $1 AND status = 'active'
"""
ACTIVE_STAGE_OF = """
SELECT s.id FROM bmad_workflow_stages s JOIN bmad_workflows w ON w.project_id = s.project_id AND w.id = s.workflow_id
WHERE w.project_id = bmad_project() AND w.number = $1::int AND s.status = 'active'
"""
BRIEF_FIELDS = """
    w.id, w.number, 'W-' || w.number AS key, w.definition AS type, w.definition, w.title, w.status::text AS status,
    w.reason, date_trunc('second', w.started_at) AS started_at, date_trunc('second', w.completed_at) AS completed_at,
    w.story_id,
    (SELECT t.key FROM bmad_stories t WHERE t.project_id = w.project_id AND t.id = w.story_id) AS story, p.*
"""
# What a cancellation cut off is no progress; a stage that the run left out is.
CUT_OFF = "the run was cancelled"
IS_LEFT_OUT = f"(s.status = 'skipped' AND s.outcome IS DISTINCT FROM '{CUT_OFF}')"
PROGRESS = f"""
LATERAL (
    SELECT count(*)::int AS total, (count(*) FILTER (WHERE s.status = 'done' OR {IS_LEFT_OUT}))::int AS done,
        (CASE WHEN count(*) = 0 THEN 0
            ELSE 100 * count(*) FILTER (WHERE s.status = 'done' OR {IS_LEFT_OUT}) / count(*) END)::int AS percent,
        min(coalesce(s.agent || ': ', '') || coalesce(s.action, s.creates, s.updates, s.validates, s.step, ''))
            FILTER (WHERE s.status = 'active') AS stage
    FROM bmad_workflow_stages s WHERE s.project_id = w.project_id AND s.workflow_id = w.id
) AS p
"""
GET = f"""
SELECT {BRIEF_FIELDS} FROM bmad_workflows w, {PROGRESS} WHERE w.project_id = bmad_project() AND w.number = $1::int
"""
LOCK = """
SELECT id, status::text AS status FROM bmad_workflows
WHERE project_id = bmad_project() AND number = $1::int FOR UPDATE
"""
LIST = f"""
SELECT {BRIEF_FIELDS} FROM bmad_workflows w, {PROGRESS}
WHERE w.project_id = bmad_project() AND w.number < $1::int AND ($2::text IS NULL OR w.status::text = $2::text)
ORDER BY w.number DESC LIMIT $3::int
"""
# In the order in which they were done; of a long run the latest 100.
STAGES = """
SELECT * FROM (
    SELECT position, iteration, kind, step, agent, action, creates, updates, validates, uses, requires, optional,
        condition, story_key AS story, status, outcome, left(note, 500) AS note, artifact, count(*) OVER () AS total,
        row_number() OVER (ORDER BY started_at NULLS LAST, position, iteration) AS place
    FROM bmad_workflow_stages WHERE project_id = bmad_project() AND workflow_id = $1) s
WHERE s.place > s.total - 100 ORDER BY s.place
"""
# Tasks lie above workflows and are only read here: whoever reads a run wants to see its work.
TASKS = """
SELECT 'T-' || number AS key, title, status::text AS status, agent, count(*) OVER () AS total FROM bmad_tasks
WHERE project_id = bmad_project() AND workflow_id = $1
ORDER BY status IN ('completed', 'cancelled'), number LIMIT 50
"""
SIMILAR = """
SELECT 'W-' || w.number AS key, w.title, w.status::text AS status, w.reason,
    round((extract(epoch FROM coalesce(w.completed_at, w.updated_at) - w.started_at) / 3600)::numeric, 1)::float AS hours,
    (SELECT array_agg(n.note ORDER BY n.completed_at DESC) FROM (
        SELECT left(s.note, 200) AS note, s.completed_at FROM bmad_workflow_stages s
        WHERE s.project_id = w.project_id AND s.workflow_id = w.id AND s.note <> ''
        ORDER BY s.completed_at DESC LIMIT 3) n) AS notes
FROM bmad_workflows w
WHERE w.project_id = bmad_project() AND w.definition = $1::text AND w.status IN ('completed', 'cancelled')
ORDER BY w.number DESC LIMIT 3
"""
FINISH = f"""
UPDATE bmad_workflows SET {WORKFLOW.set_sql(WorkflowStatus.COMPLETED)}, completed_at = now(), updated_at = now(),
    version = version + 1
WHERE project_id = bmad_project() AND id = $1 AND {WORKFLOW.may_sql(WorkflowStatus.COMPLETED)}
"""
# How a run went, for whoever runs the like of it; of its notes the last ten, in the order they were written.
OUTCOME = f"""
SELECT round((extract(epoch FROM coalesce(w.completed_at, now()) - w.started_at) / 3600)::numeric, 1)::float8 AS hours,
    count(*) FILTER (WHERE s.status = 'done' AND s.kind <> 'end')::int AS done,
    count(*) FILTER (WHERE {IS_LEFT_OUT} AND s.started_at IS NOT NULL)::int AS skipped,
    count(*) FILTER (WHERE s.status = 'done' AND s.iteration > 1)::int AS again,
    (SELECT array_agg(n.told ORDER BY n.completed_at) FROM (
        SELECT concat_ws(' ', o.agent, coalesce(o.creates, o.updates, o.validates, o.action, o.step)) || ': '
            || left(o.note, 300) AS told, o.completed_at
        FROM bmad_workflow_stages o
        WHERE o.project_id = w.project_id AND o.workflow_id = w.id AND o.note <> ''
        ORDER BY o.completed_at DESC LIMIT 10) n) AS notes
FROM bmad_workflows w LEFT JOIN bmad_workflow_stages s ON s.project_id = w.project_id AND s.workflow_id = w.id
WHERE w.project_id = bmad_project() AND w.id = $1
GROUP BY w.project_id, w.id
"""
TOUCH = (
    "UPDATE bmad_workflows SET updated_at = now(), version = version + 1 WHERE project_id = bmad_project() AND id = $1"
)

# The name of a file, for PostgreSQL and for Python.
FILE = r"\.[A-Za-z0-9]{1,5}$"
# What the project has of the names a stage asks for: a file, a title or a kind of document that is recorded, or what an
# earlier stage of the run brought forth; a stage that is done without an artifact made no file. The templates and guides
# that an import keeps are no documents.
HAVE = f"""
SELECT asked.name FROM unnest($2::text[]) AS asked(name)
WHERE EXISTS (SELECT FROM bmad_workflow_stages s WHERE s.project_id = bmad_project() AND s.workflow_id = $1
        AND s.status = 'done' AND (s.artifact IS NOT NULL OR asked.name !~ '{FILE}')
        AND asked.name IN (split_part(s.creates, ' (', 1), split_part(s.updates, ' (', 1),
            s.validates, s.step, s.artifact, regexp_replace(s.artifact, '^.*/', '')))
   OR EXISTS (SELECT FROM bmad_artifacts a WHERE a.project_id = bmad_project()
        AND (a.path IN (asked.name, 'docs/' || asked.name) OR lower(a.title) = lower(asked.name) OR a.kind = asked.name)
        AND NOT {is_kept_sql("a")})
"""
# The first story that is still to be built and that no run is about.
NEXT_STORY = """
SELECT t.key FROM bmad_stories t
WHERE t.project_id = bmad_project() AND t.status IN ('draft', 'ready', 'in_progress')
  AND NOT EXISTS (SELECT FROM bmad_workflow_stages s JOIN bmad_workflows w ON w.project_id = s.project_id
        AND w.id = s.workflow_id
    WHERE s.project_id = t.project_id AND s.story_key = t.key
      AND (s.workflow_id = $1 OR (w.status IN ('active', 'paused') AND s.status IN ('pending', 'active'))))
ORDER BY t.epic_number, t.number, t.suffix LIMIT 1
"""
