"""SQL of workflow runs and their stages."""

from bmad_mcp.lifecycles import STAGE, WORKFLOW, StageStatus, WorkflowStatus

DEFINITION = """
SELECT name, title, source, body FROM bmad_templates
WHERE project_id = bmad_project() AND kind = 'workflow' AND name = $1::text
"""
DEFINITIONS = """
SELECT name AS type, title AS name, source, left(body ->> 'description', 200) AS about,
    coalesce(jsonb_array_length(body -> 'stages'), 0) AS stages
FROM bmad_templates WHERE project_id = bmad_project() AND kind = 'workflow' AND name > $1::text
ORDER BY name LIMIT $2::int
"""
DEFINITION_NAMES = """
SELECT array_agg(name ORDER BY name) FROM bmad_templates WHERE project_id = bmad_project() AND kind = 'workflow'
"""
HANDOFF_PROMPT = """
SELECT body -> 'handoff_prompts' ->> $2::text FROM bmad_templates
WHERE project_id = bmad_project() AND kind = 'workflow' AND name = $1::text
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
ADD_STAGES = f"""
INSERT INTO bmad_workflow_stages (project_id, workflow_id, iteration, story_key, {STAGE_COLUMNS})
SELECT bmad_project(), $1, 1, $2::text, s.position, s.kind, s.step, s.agent, s.action, s.creates, s.updates,
    s.validates, s.uses, coalesce(s.requires, '{{}}'), coalesce(s.optional, false), s.condition, coalesce(s.optional_steps, '{{}}'),
    s.repeats, coalesce(s.routes, '{{}}'), coalesce(s.notes, '')
FROM jsonb_to_recordset($3::jsonb) AS s(position int, kind text, step text, agent text, action text, creates text,
    updates text, validates text, uses text, requires text[], optional boolean, condition text, optional_steps text[],
    repeats text, routes jsonb, notes text)
"""
# New instances of stages that are to be done again; their first instances hold the definition.
ADD_AGAIN = f"""
INSERT INTO bmad_workflow_stages (project_id, workflow_id, iteration, story_key, {STAGE_COLUMNS})
SELECT s.project_id, s.workflow_id,
    (SELECT max(n.iteration) + 1 FROM bmad_workflow_stages n WHERE n.project_id = bmad_project()
        AND n.workflow_id = $1 AND n.position = ANY($2::int[])),
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
SKIP_PENDING = f"""
UPDATE bmad_workflow_stages SET {STAGE.set_sql(StageStatus.SKIPPED)}, outcome = $2::text, updated_at = now(),
    completed_at = now(), version = version + 1
WHERE project_id = bmad_project() AND workflow_id = $1 AND {STAGE.may_sql(StageStatus.SKIPPED)}
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
    w.reason, w.started_at, w.completed_at, w.story_id,
    (SELECT t.key FROM bmad_stories t WHERE t.project_id = w.project_id AND t.id = w.story_id) AS story, p.*
"""
PROGRESS = """
LATERAL (
    SELECT count(*)::int AS total, (count(*) FILTER (WHERE s.status IN ('done', 'skipped')))::int AS done,
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
STAGES = """
SELECT position, iteration, kind, step, agent, action, creates, updates, validates, uses, requires, optional, condition,
    story_key AS story, status, outcome, note, artifact
FROM bmad_workflow_stages WHERE project_id = bmad_project() AND workflow_id = $1
ORDER BY started_at NULLS LAST, position, iteration
"""
TASKS = """
SELECT 'T-' || number AS key, title, status::text AS status, agent FROM bmad_tasks
WHERE project_id = bmad_project() AND workflow_id = $1 ORDER BY number LIMIT 100
"""
SIMILAR = """
SELECT 'W-' || w.number AS key, w.title, w.status::text AS status,
    round((extract(epoch FROM w.completed_at - w.started_at) / 3600)::numeric, 1)::float AS hours,
    (SELECT array_agg(left(n.note, 200) ORDER BY n.completed_at DESC) FROM (
        SELECT s.note, s.completed_at FROM bmad_workflow_stages s
        WHERE s.project_id = w.project_id AND s.workflow_id = w.id AND s.note <> ''
        ORDER BY s.completed_at DESC LIMIT 3) n) AS notes
FROM bmad_workflows w
WHERE w.project_id = bmad_project() AND w.definition = $1::text AND w.completed_at IS NOT NULL
ORDER BY w.number DESC LIMIT 3
"""
FINISH = f"""
UPDATE bmad_workflows SET {WORKFLOW.set_sql(WorkflowStatus.COMPLETED)}, completed_at = now(), updated_at = now(),
    version = version + 1
WHERE project_id = bmad_project() AND id = $1 AND {WORKFLOW.may_sql(WorkflowStatus.COMPLETED)}
"""
TOUCH = (
    "UPDATE bmad_workflows SET updated_at = now(), version = version + 1 WHERE project_id = bmad_project() AND id = $1"
)

# What the project has of the names a stage asks for: by path, by title, or as the output of an earlier stage.
HAVE = """
SELECT name FROM unnest($2::text[]) AS asked(name)
WHERE EXISTS (SELECT FROM bmad_artifacts a WHERE a.project_id = bmad_project() AND a.path = 'docs/' || asked.name)
   OR EXISTS (SELECT FROM bmad_artifacts a WHERE a.project_id = bmad_project() AND a.path = asked.name)
   OR EXISTS (SELECT FROM bmad_workflow_stages s WHERE s.project_id = bmad_project() AND s.workflow_id = $1
        AND s.status = 'done' AND asked.name IN (s.creates, s.updates, s.artifact))
"""
# The story for the next turn of the loop: the first open one that the run has not had.
NEXT_STORY = """
SELECT t.key FROM bmad_stories t
WHERE t.project_id = bmad_project() AND t.status::text NOT IN ('done', 'cancelled')
  AND NOT EXISTS (SELECT FROM bmad_workflow_stages s WHERE s.project_id = bmad_project() AND s.workflow_id = $1
        AND s.story_key = t.key)
ORDER BY t.epic_number, t.number, t.suffix LIMIT 1
"""
