"""The main job: a real BMad project is imported, worked on through a real client, and still there after a restart."""

import asyncio
import os
import subprocess

import pytest
from bmad_installs import V4, V6, add_v4_docs, add_v6_docs, installed
from processes import COMMAND, assistant, fresh_key

SIX = (
    "greenfield-fullstack",
    "greenfield-service",
    "greenfield-ui",
    "brownfield-fullstack",
    "brownfield-service",
    "brownfield-ui",
)


def bmad(env, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "version, add_docs, agent, ready",
    [(V4, add_v4_docs, "dev", "2.3"), (V6, add_v6_docs, "bmad-agent-dev", "2.3")],
    ids=["4.44.3", "6.12.0"],
)
async def test_a_real_project_from_import_to_handoff_and_after_a_restart(
    tmp_path, server_env, version, add_docs, agent, ready
):
    root = add_docs(installed(version, tmp_path / "shop"))
    project = fresh_key("shop")

    plan = await asyncio.to_thread(bmad, server_env, "import", str(root), "--project", project, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    done = await asyncio.to_thread(bmad, server_env, "import", str(root), "--project", project)
    assert done.returncode == 0, done.stderr
    assert "12" in done.stdout
    again = await asyncio.to_thread(bmad, server_env, "import", str(root), "--project", project, "--json")
    assert again.returncode == 0, again.stderr

    async with assistant(server_env, project) as call:
        status = await call("project_status")
        assert sum(status["stories"].values()) == 12
        active = await call("agent_activate", agent=agent)
        assert (active["agent"]["agent"], active["agent"]["status"]) == ("dev", "active")
        assert active["persona"]
        following = await call("story_next")
        assert following["story"]["key"] in ("2.2", ready)
        claim = await call("task_claim", agent="dev")
        assert claim["task"]["status"] == "active"
        key, story = claim["task"]["key"], claim["task"]["story"]
        await call("task_heartbeat", task=key, lease=claim["lease"])
        completed = await call("task_complete", task=key, lease=claim["lease"], summary="Done with tests.")
        assert completed["task"]["status"] == "completed"
        assert completed["story"]["key"] == story
        offered = await call("handoff_offer", to="qa", story=story, note="Please look at the service.")
        assert offered["handoff"]["status"] == "offered"
        await call("agent_deactivate", agent=agent, summary="Wrote the service.")
        before = await call("story_get", story=story)

    async with assistant(server_env, project, mode="legacy") as call:
        await call("agent_activate", agent="qa")
        accepted = await call("handoff_accept", handoff=offered["handoff"]["key"])
        assert accepted["handoff"]["status"] == "accepted"
        assert (await call("task_get", task=key))["task"]["summary"] == "Done with tests."
        assert await call("story_get", story=story) == before
        assert story in await call.read(f"bmad://stories/{story}")


async def test_a_workflow_of_every_type_runs_from_start_to_completed(server_env):
    async with assistant(server_env, fresh_key("six")) as call:
        for kind in SIX:
            started = await call("workflow_start", type=kind, title=f"Run of {kind}")
            key, stage = started["workflow"]["key"], started["stage"]
            assert started["workflow"]["status"] == "active"
            while stage is not None:
                outcome = "done"
                if stage["kind"] == "decision":
                    outcome = "major_enhancement"
                elif stage.get("condition") and stage["position"] % 2:
                    outcome = "skip"
                answer = await call("workflow_advance", workflow=key, outcome=outcome)
                stage = answer["stage"]
            assert answer["workflow"]["status"] == "completed"
            found = await call("workflow_get", workflow=key)
            assert {one["status"] for one in found["stages"]} <= {"done", "skipped"}
