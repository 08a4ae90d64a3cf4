"""Ways to drive a run in tests."""

SIX = {
    "greenfield-fullstack": 19,
    "greenfield-service": 15,
    "greenfield-ui": 18,
    "brownfield-fullstack": 18,
    "brownfield-service": 14,
    "brownfield-ui": 15,
}

ADD_DEFINITION = """
INSERT INTO bmad_templates (project_id, kind, name, title, body, source)
VALUES (bmad_project(), 'workflow', $1, $2, $3, 'import')
"""


def always_done(stage):
    """`done`, and the route that stays in the workflow where only a route leads on."""
    return "major_enhancement" if "major_enhancement" in (stage.routes or {}) else "done"


def skip_what_may(stage):
    """`skip` wherever it is allowed."""
    return "skip" if stage.kind != "decision" and (stage.optional or stage.condition) else always_done(stage)


async def drive(run, key, stage, choose=always_done):
    """Advance to the end; `choose(stage)` gives the outcome."""
    for _ in range(200):
        answer = await run("workflow_advance", workflow=key, outcome=choose(stage), position=stage.position)
        before, stage = stage, answer.stage
        if stage is None:
            return answer
        assert answer.workflow.status == "active"
        assert answer.workflow.progress.percent < 100
        assert stage.position > before.position, "done and skip lead forward only"
    raise AssertionError("the run does not end")


def is_it(stage, name):
    """Whether the stage is known by that action, step, creation or condition."""
    return name in (stage.action, stage.step, stage.creates, stage.condition, stage.validates)


async def to_stage(run, key, stage, name):
    """Advance by `done` until the stage with that action, step, creation or condition is active."""
    while not is_it(stage, name):
        stage = (await run("workflow_advance", workflow=key, outcome=always_done(stage))).stage
    return stage


async def stories(run, *titles):
    """Stories 1.1, 1.2, … with these titles."""
    await run("epic_create", title="One")
    for title in titles:
        await run("story_create", epic="1", title=title)


async def statuses(run, key):
    """The statuses of a run's stages, in order."""
    return [one.status for one in (await run("workflow_get", workflow=key)).stages]
