"""The trail names the agent in session of the caller, and nobody where none is."""

from typing import Any

from stored_rows import change

pytest_plugins = ("stories.fixtures",)

# Roles as definitions write them: one agent, several, and none that there is.
STAGES = [
    {"position": 1, "kind": "agent", "agent": "analyst/pm", "creates": "brief.md"},
    {"position": 2, "kind": "agent", "agent": "various", "action": "look_around"},
    {"position": 3, "kind": "agent", "agent": "ux-expert", "creates": "spec.md"},
]
ADD_DEFINITION = """
INSERT INTO bmad_templates (project_id, kind, name, title, body, source)
VALUES (bmad_project(), 'workflow', 'roles', 'Roles', $1, 'import')
"""


async def walk(run, workspace) -> None:
    """Every operation on a run, and a document of one of its stages."""
    await change(workspace.opened, ADD_DEFINITION, {"stages": STAGES})
    await run("workflow_start", type="roles")
    await run("workflow_advance", workflow="W-1", outcome="done", artifact="docs/brief.md")
    await run("workflow_pause", workflow="W-1")
    await run("workflow_resume", workflow="W-1")
    await run("workflow_advance", workflow="W-1", outcome="done")
    await run("workflow_cancel", workflow="W-1")


async def written(sql) -> list[Any]:
    return await sql(
        "SELECT operation, agent, detail ->> 'role' AS role FROM bmad_agent_activity WHERE project_id = bmad_project()"
        " AND operation NOT LIKE 'agent_%' ORDER BY id"
    )


async def seen(run) -> set[str]:
    return {item.agent for item in (await run("agent_list")).items if item.last_seen is not None}


async def test_a_run_is_walked_by_the_agent_in_session_and_the_stage_keeps_its_role(run, workspace, sql):
    await run("agent_activate", agent="dev")
    await walk(run, workspace)
    assert [tuple(row) for row in await written(sql)] == [
        ("workflow_start", "dev", None),
        ("workflow_advance", "dev", "analyst/pm"),
        ("workflow_pause", "dev", None),
        ("workflow_resume", "dev", None),
        ("workflow_advance", "dev", "various"),
        ("workflow_cancel", "dev", None),
    ]
    assert await seen(run) == {"dev"}
    assert (await run("artifact_get", artifact="A-1")).agent == "dev"
    assert (await run("analytics_overview")).agents.active_count == 1


async def test_what_nobody_in_session_does_is_no_agents_work(run, workspace, sql):
    await walk(run, workspace)
    assert {row["agent"] for row in await written(sql)} == {None}
    assert await seen(run) == set()
    assert (await run("artifact_get", artifact="A-1")).agent is None


async def test_a_document_that_somebody_replaces_is_not_its_first_authors_doing(run, sql, session):
    await run("artifact_record", kind="prd", path="docs/prd.md", caller=await session("pm", "one"))
    await run("artifact_record", kind="prd", path="docs/prd.md")
    assert [row["agent"] for row in await written(sql)] == ["pm", None]


async def test_an_offer_is_made_by_whom_it_comes_from_and_by_no_agent_that_there_is_not(run, sql, session):
    await run("handoff_offer", to="qa", note="Please look")
    await run("task_create", title="one", agent="dev")
    await run("task_claim", agent="dev")
    await run("handoff_offer", to="qa", note="Please look", task="T-1")
    await run("handoff_offer", to="qa", note="Please look", caller=await session("sm", "two"))
    rows = await sql(
        "SELECT agent, detail ->> 'from' AS giver FROM bmad_agent_activity"
        " WHERE project_id = bmad_project() AND operation = 'handoff_offer' ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [(None, "user"), (None, "dev"), ("sm", None)]
