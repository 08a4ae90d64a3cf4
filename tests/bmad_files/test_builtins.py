"""The definitions that every project begins with."""

import asyncio
import json
import shutil
import subprocess
import sys
import uuid

from bmad_installs import add_v4_docs
from stored_rows import change, dump, fetch

from bmad_mcp.bmad_files.builtins import builtin_rows, seed_builtins, stored_builtins
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.plan import plan
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.report import ImportReport
from bmad_mcp.bmad_files.rows import wanted_rows
from bmad_mcp.builtin import FOLDER
from bmad_mcp.call import OpenProject
from bmad_mcp.projects.open import open_project

SEED = """
import asyncio, json, sys, uuid
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import OpenProject
from bmad_mcp.db import open_pool

async def main():
    connect, project, key = json.loads(sys.argv[1])
    pool = await open_pool(**connect)
    print("ready", flush=True)
    sys.stdin.readline()
    await seed_builtins(OpenProject(uuid.UUID(project), key, pool))
    await pool.close()

asyncio.run(main())
"""


async def bare_project(pool):
    key = f"bare-{uuid.uuid4().hex[:10]}"
    async with pool.acquire() as connection:
        project_id, _ = await open_project(connection, key, key)
    return OpenProject(project_id, key, pool)


async def test_a_new_project_has_the_eight_personas_and_six_workflows(workspace):
    agents = await fetch(workspace.opened, "SELECT * FROM bmad_agents ORDER BY name")
    assert [row["name"] for row in agents] == ["analyst", "architect", "dev", "pm", "po", "qa", "sm", "ux"]
    for row in agents:
        assert row["source"] == "builtin"
        assert row["source_path"] is None
        assert row["content"], row["name"]
        assert row["persona"]["role"], row["name"]
        assert row["commands"], row["name"]
    workflows = await fetch(workspace.opened, "SELECT name, body FROM bmad_templates WHERE kind = 'workflow'")
    stages = {row["name"]: len(row["body"]["stages"]) for row in workflows}
    assert stages == {
        "greenfield-fullstack": 19,
        "greenfield-service": 15,
        "greenfield-ui": 18,
        "brownfield-fullstack": 18,
        "brownfield-service": 14,
        "brownfield-ui": 15,
    }
    (one,) = [row["body"] for row in workflows if row["name"] == "brownfield-fullstack"]
    assert {stage["kind"] for stage in one["stages"]} == {"agent", "guidance", "decision", "end"}
    assert set(one) == {
        "description",
        "type",
        "project_types",
        "when_to_use",
        "handoff_prompts",
        "flow_diagram",
        "stages",
    }
    documents = await fetch(workspace.opened, "SELECT body FROM bmad_templates WHERE kind = 'document'")
    assert documents
    assert all(set(row["body"]) == {"version", "format", "filename", "sections", "variables"} for row in documents)
    checklists = await fetch(workspace.opened, "SELECT items FROM bmad_checklists")
    assert len(checklists) == 6
    assert all(set(item) == {"section", "text", "mark"} for row in checklists for item in row["items"])


async def test_agents_answer_to_the_names_of_both_generations(workspace, run):
    for alias, name in (("bmad-agent-dev", "dev"), ("ux-expert", "ux"), ("bmad-agent-ux-designer", "ux")):
        made = await run("task_create", title="A task", agent=alias)
        assert made.task.agent == name, alias


async def test_seeding_again_writes_nothing(workspace):
    before = await dump(workspace.opened)
    await seed_builtins(workspace.opened)
    assert await dump(workspace.opened) == before


async def test_seeding_leaves_what_was_imported_and_renews_what_was_built_in(workspace):
    opened = workspace.opened
    await change(opened, "UPDATE bmad_agents SET source = 'import', title = 'Ours' WHERE name = 'dev'")
    await change(opened, "UPDATE bmad_agents SET title = 'Of an earlier version' WHERE name = 'qa'")
    await change(opened, "DELETE FROM bmad_checklists WHERE name = 'story-dod'")
    await seed_builtins(opened)
    titles = {row["name"]: row["title"] for row in await fetch(opened, "SELECT name, title FROM bmad_agents")}
    assert titles["dev"] == "Ours"
    assert titles["qa"] != "Of an earlier version"
    assert len(await fetch(opened, "SELECT FROM bmad_checklists WHERE name = 'story-dod'")) == 1


async def test_two_seedings_at_once_give_one_set(pool):
    opened = await bare_project(pool)
    await asyncio.gather(*(seed_builtins(opened) for _ in range(4)))
    assert len(await fetch(opened, "SELECT FROM bmad_agents")) == 8


async def test_two_processes_that_seed_at_once_give_one_set(pool, database):
    opened = await bare_project(pool)
    argument = json.dumps([database.app, str(opened.id), opened.key], default=str)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SEED, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    rows = await fetch(opened, "SELECT version FROM bmad_agents")
    assert [row["version"] for row in rows] == [1] * 8


def test_the_built_in_files_are_read_without_a_deviation():
    assert builtin_rows().deviations == ()
    assert builtin_rows() is builtin_rows()


async def test_a_plan_for_a_project_that_is_not_there_yet_is_that_of_a_new_one(workspace, tmp_path):
    folder = add_v4_docs(tmp_path / "shop")
    shutil.copytree(FOLDER / ".bmad-core", folder / ".bmad-core")
    wanted = wanted_rows(read_project(folder), uuid.uuid4(), "import")
    planned = ImportReport.of(wanted, plan(wanted, stored_builtins()), project="a", folder="b", dry_run=True)
    done = await import_folder(workspace.opened, folder)
    assert planned.counts == done.counts
    assert planned.updated == done.updated
    assert planned.counts["agent"].updated == 8
