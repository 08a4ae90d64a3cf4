"""Row-level security is a wall of its own: with the first one taken out of every statement, no foreign row is seen."""

import json
import re
from typing import ClassVar

import asyncpg
import pytest
from harness import TestWorkspace, new_project
from mcp.client import Client
from mcp_types import ResourceTemplateReference

from bmad_mcp import db
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.db import open_pool
from bmad_mcp.errors import BmadError
from bmad_mcp.operation import TOOLSETS, perform
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.resources import RESOURCES

# What every statement says itself of whose rows it wants.
FIRST_WALL = re.compile(r"(?:\b\w+\.)?\b(?:project_id|id) = bmad_project\(\)")
READS = tuple(operation for operation in CATALOG if operation.scope == "read")
ARGUMENTS = {
    "agent": "dev",
    "epic": "1",
    "story": "1.1",
    "task": "T-1",
    "workflow": "W-1",
    "artifact": "A-1",
    "template": "prd-tmpl",
    "checklist": "canary-checklist",
    "query": "canary",
    "days": 30,
    "limit": 50,
    "focus": "canary",
    "skill": "dev",
}
KINDS = ("agent", "story", "epic", "task", "workflow", "template", "checklist")
PROMPT_ARGUMENTS = {"handoff": {"to": "qa", "task": "T-1"}, "retrospective": {"epic": "1"}}


async def fill(workspace: TestWorkspace, word: str) -> str:
    """Something of everything, with a word in it that nothing else has; returns a memory's id."""

    async def run(name: str, connection: str = word, **arguments: object):
        return await perform(BY_NAME[name], arguments, Caller(word, connection), workspace)

    await run("epic_create", title=f"Epic {word}", goal=f"Goal {word}")
    await run("story_create", epic="1", title=f"Story {word}", acceptance=[f"It is {word}"])
    await run("agent_activate", agent="dev", focus=f"Focus {word}")
    await run("task_create", title=f"Task {word}", description=f"Text {word}", story="1.1", agent="dev")
    await run("task_create", title=f"Other {word}", depends_on=["T-1"])
    await run("story_update", story="1.1", expected_version=1, status="ready")
    await run("task_claim", agent="dev", task="T-1")
    await run("handoff_offer", to="qa", note=f"Note {word}")
    await run("workflow_start", type="greenfield-fullstack", title=f"Workflow {word}")
    await run("artifact_record", kind="document", title=f"Artifact {word}", content=f"Content {word}")
    await run("agent_activate", "quality", agent="qa")
    await run("gate_record", "quality", story="1.1", gate="CONCERNS", reason=f"Reason {word}", issues=[])
    stored = await run("memory_store", text=f"The canary sings {word} in the mine", agent="dev")
    await _define(workspace.opened, word)
    return str(stored.memory.id)


async def _define(opened: OpenProject, word: str) -> None:
    """Definitions come from files: a checklist and a template of this project's own."""
    transaction = db.Transaction(opened.pool, opened.id)
    for table in ("bmad_checklists", "bmad_templates", "bmad_agents"):
        await transaction.execute(f"UPDATE {table} SET title = title || ' {word}'")
    first = "(SELECT min(name) FROM bmad_checklists)"
    await transaction.execute(f"UPDATE bmad_checklists SET name = 'canary-checklist' WHERE name = {first}")
    await transaction.end("COMMIT")


# The rest is about the transaction itself, such as its locks.
READS_ROWS = re.compile(r"\b(FROM|UPDATE|INTO)\b")


class Stripped(db.Transaction):
    """A transaction whose statements lack the first wall; keeps which had one, and which asked for nobody's rows."""

    changed: ClassVar[set[str]] = set()
    unchanged: ClassVar[set[str]] = set()

    @classmethod
    def of(cls, sql: str) -> str:
        if not READS_ROWS.search(sql):
            return sql
        stripped, count = FIRST_WALL.subn("true", sql)
        (cls.changed if count else cls.unchanged).add(sql)
        assert "bmad_project()" not in stripped, f"the wall has a form that this test does not know: {stripped}"
        return stripped

    @classmethod
    def instead(cls, monkeypatch) -> None:
        """Every transaction from now on, those of calls and those beside them."""
        cls.changed, cls.unchanged = set(), set()
        monkeypatch.setattr("bmad_mcp.call.Transaction", cls)
        monkeypatch.setattr("bmad_mcp.db.Transaction", cls)

    async def fetch(self, sql, *values):
        return await super().fetch(self.of(sql), *values)

    async def fetchrow(self, sql, *values):
        return await super().fetchrow(self.of(sql), *values)

    async def fetchval(self, sql, *values):
        return await super().fetchval(self.of(sql), *values)


def calls(memory: str):
    """Every read operation with arguments that fit both projects."""
    for operation in READS:
        fields = operation.arguments.model_fields
        if operation.name == "key_list":
            for kind in KINDS:
                yield operation, {"kind": kind}
            continue
        given = {name: value for name, value in ARGUMENTS.items() if name in fields}
        required = {name for name, field in fields.items() if field.is_required()}
        given |= {name: value for name, value in (("memory", memory), ("memories", [memory])) if name in required}
        assert required <= given.keys(), f"{operation.name} needs an argument that this test does not know"
        # Filters would hide what leaks; what must be named is named.
        yield operation, {name: given[name] for name in given if name in required or name in ("limit", "days")}


@pytest.fixture
def alone(scratch_database):
    """A database in which no other test's rows push a foreign one off the first page."""
    scratch_database.migrate()
    return scratch_database


@pytest.fixture
async def two(alone):
    pool = await open_pool(**alone.app)
    mine, theirs = TestWorkspace(await new_project(pool)), TestWorkspace(await new_project(pool))
    memory = await fill(mine, "minnow")
    foreign = await fill(theirs, "kraken")
    yield mine, theirs, memory, foreign
    await pool.close()


async def seen(workspace: TestWorkspace, memory: str) -> dict[str, str]:
    """What each read operation, resource, prompt and completion answers, or its refusal, as text."""
    told = {}
    for operation, arguments in calls(memory):
        try:
            result = await perform(operation, arguments, Caller("minnow", "minnow"), workspace)
            answer = json.dumps(result.model_dump(mode="json"))
        except BmadError as error:
            answer = f"refused: {error.message}"
        told[f"{operation.name} {arguments.get('kind', '')}".strip()] = answer
    face = McpFace(workspace, lambda _: Caller("minnow", "minnow"), toolsets=TOOLSETS)
    async with Client(face.server) as client:
        for operation, template in RESOURCES:
            values = {name: ARGUMENTS[name] for name in template.variable_names}
            answer = await client.read_resource(template.expand(values))
            told[str(operation.resource)] = answer.model_dump_json()
        listed = await client.list_prompts()
        told["prompts"] = listed.model_dump_json()
        for prompt in listed.prompts:
            answer = await client.get_prompt(prompt.name, PROMPT_ARGUMENTS.get(prompt.name, {}))
            told[f"prompt {prompt.name}"] = answer.model_dump_json()
        for operation, template in RESOURCES:
            for name in template.variable_names:
                reference = ResourceTemplateReference(type="ref/resource", uri=str(operation.resource))
                answer = await client.complete(reference, {"name": name, "value": ""})
                told[f"completion of {name} in {operation.resource}"] = answer.model_dump_json()
    return told


async def test_with_the_first_wall_gone_no_read_shows_a_foreign_row(two, monkeypatch):
    mine, theirs, memory, foreign = two
    before = await seen(mine, memory)
    own = {name for name, answer in before.items() if "minnow" in answer}
    assert not {name: answer for name, answer in before.items() if answer.startswith("refused")}
    assert len(own) >= 40, sorted(before.keys() - own)
    Stripped.instead(monkeypatch)
    after = await seen(mine, memory)
    print(f"{len(Stripped.changed)} statements without the first wall, {len(after)} answers")
    assert len(Stripped.changed) >= len(READS)
    for name, answer in after.items():
        assert "kraken" not in answer, name
        assert str(theirs.opened.id) not in answer, name
        assert theirs.opened.key not in answer, name
        assert foreign not in answer, name
    # Not an empty house: each shows as much of its own as before.
    assert {name for name, answer in after.items() if "minnow" in answer} == own


async def test_without_the_second_wall_the_same_statements_would_show_them(two, alone, monkeypatch):
    mine, _, memory, _ = two
    bypassing = await open_pool(**alone.admin)
    try:
        opened = OpenProject(mine.opened.id, mine.opened.key, bypassing)
        with_first = await seen(TestWorkspace(opened), memory)
        assert not [name for name, answer in with_first.items() if "kraken" in answer], "the first wall stands alone"
        Stripped.instead(monkeypatch)
        leaked = {name for name, answer in (await seen(TestWorkspace(opened), memory)).items() if "kraken" in answer}
    finally:
        await bypassing.close()
    # The list of skills tells names and digests, and none of the words that were written.
    lists = {name for name in with_first if name.endswith("_list")} - {"skill_list"}
    assert lists <= leaked, lists - leaked
    assert {"bmad://project/board", "bmad://stories", "bmad://activity"} <= leaked, leaked


@pytest.mark.parametrize("table", ["mcp_tokens", "mcp_members"])
async def test_tokens_and_members_of_another_project_are_not_seen_or_written(two, table):
    from auth_server import OPERATOR

    from bmad_mcp.call import open_call
    from bmad_mcp.identity.issuing import create_token

    mine, theirs, *_ = two
    async with open_call(theirs, OPERATOR, "token_create") as call:
        await create_token(call, "kraken", ("read",))
    transaction = db.Transaction(mine.opened.pool, mine.opened.id)
    try:
        assert await transaction.fetchval(f"SELECT count(*) FROM {table}") == 0
        assert await transaction.execute(f"UPDATE {table} SET created_at = now()") == "UPDATE 0"
        assert await transaction.execute(f"DELETE FROM {table}") == "DELETE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await transaction.execute(
                "INSERT INTO mcp_members (project_id, principal, role) VALUES ($1, 'me', 'admin')", theirs.opened.id
            )
    finally:
        await transaction.end("ROLLBACK")
