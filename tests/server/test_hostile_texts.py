"""Every text of every operation, resource, prompt, completion and cursor: characters of all planes, and what would be
SQL if it were pasted."""

import asyncio
import base64
import itertools
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from auth_server import guarded_server
from harness import TestWorkspace, new_project
from hostile_caller import TABLES, WRITTEN, HostileCaller, Told, hashed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.write_cases import CASES
from text_fields import FIELDS, Path, field_name, placed

from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.db import open_pool
from bmad_mcp.operation import IDEMPOTENCY_FIELD, Operation
from bmad_mcp.server.prompts import PROMPTS
from bmad_mcp.shapes import encode_cursor

MOST = 5000 if os.environ.get("BMAD_TEST_EXAMPLES") == "new" else 15
# Each ends a text in SQL if it were pasted between quotes.
QUOTED = (
    "'; DROP TABLE bmad_tasks; --",
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(9); --",
    "x' UNION SELECT key, name FROM bmad_projects --",
    "'); UPDATE bmad_tasks SET status = 'completed'; COMMIT; --",
    "E'\\x27' || current_user",
)
OTHERS = (
    "$$; RESET ROLE; DROP TABLE bmad_stories; $$",
    'key" DESC NULLS LAST; DELETE FROM bmad_agents; --',
    "%s %(x)s $1 :name {0} {name}",
    "1); UPDATE bmad_tasks SET status = 'completed'; COMMIT; --",
    "%_\\",
    # Nothing in these is wrong in a name or in a kind.
    "dev union select key from bmad_projects --",
    "dev or true --",
)
PAYLOADS = QUOTED + OTHERS
# What LIKE would take for anything.
WILD = ("%", "_", "%' OR TRUE --")
PLANES = "a\u202e\u2066\u00e9\u4e2d\ufeff\ufffd\U0001f469\u200d\U0001f4bb\U000e0041\U0010ffffz"

# What is written as it comes, with the read that shows it again; None where only the answer does.
FREE: dict[str, tuple[str, dict[str, str]] | None] = {
    "agent_activate.focus": ("activity_list", {}),
    "agent_deactivate.summary": ("activity_list", {}),
    "epic_create.title": ("epic_get", {"epic": "epic.key"}),
    "epic_create.goal": ("epic_get", {"epic": "epic.key"}),
    "story_create.title": ("story_get", {"story": "story.key"}),
    "story_create.role": ("story_get", {"story": "story.key"}),
    "story_create.want": ("story_get", {"story": "story.key"}),
    "story_create.benefit": ("story_get", {"story": "story.key"}),
    "story_create.acceptance.0": ("story_get", {"story": "story.key"}),
    "story_update.text": ("story_get", {"story": "story.key"}),
    "story_update.title": ("story_get", {"story": "story.key"}),
    "gate_record.reason": ("gate_get", {"story": "story.key"}),
    "gate_record.issues.0.finding": ("gate_get", {"story": "story.key"}),
    "gate_record.issues.0.suggested_action": ("gate_get", {"story": "story.key"}),
    "gate_record.waived_by": ("gate_get", {"story": "story.key"}),
    "task_create.title": ("task_get", {"task": "task.key"}),
    "task_create.description": ("task_get", {"task": "task.key"}),
    "task_update.note": ("task_get", {"task": "task.key"}),
    "task_update.title": ("task_get", {"task": "task.key"}),
    "task_complete.summary": ("task_get", {"task": "task.key"}),
    "task_complete.artifacts.0": ("artifact_list", {}),
    "handoff_offer.note": ("handoff_list", {}),
    "workflow_start.title": ("workflow_get", {"workflow": "workflow.key"}),
    "workflow_advance.artifact": ("workflow_get", {"workflow": "workflow.key"}),
    "workflow_advance.note": ("workflow_get", {"workflow": "workflow.key"}),
    "workflow_pause.reason": ("workflow_get", {"workflow": "workflow.key"}),
    "workflow_resume.reason": ("workflow_get", {"workflow": "workflow.key"}),
    "workflow_cancel.reason": ("workflow_get", {"workflow": "workflow.key"}),
    "memory_store.text": ("memory_search", {"query": "text"}),
    "template_render.values.role": None,
    "checklist_run.subject": None,
    "checklist_run.results.0.note": None,
    "artifact_record.kind": ("artifact_get", {"artifact": "artifact.key"}),
    "artifact_record.title": ("artifact_get", {"artifact": "artifact.key"}),
    "artifact_record.path": ("artifact_get", {"artifact": "artifact.key"}),
    "artifact_record.content": ("artifact_get", {"artifact": "artifact.key"}),
}
# What is only looked for.
SOUGHT = {
    "project_board.query",
    "agent_context.focus",
    "story_list.query",
    "memory_context.focus",
    "memory_search.query",
    "memory_provenance.memories.0",
    "template_render.values.(name)",
    "artifact_list.kind",
    "activity_list.subject",
    "key_list.prefix",
}
# These tell the nearest, whatever is asked.
NEAREST = {"agent_context.focus", "memory_context.focus", "memory_search.query", "template_render.values.(name)"}
# A free text that has to be of a form, and is refused by its name else.
FORMED = {"task_complete.artifacts.0", "workflow_advance.artifact", "artifact_record.kind", "artifact_record.path"}
# These stand in a longer text.
FRAMED = {"story_create.role", "story_create.want", "story_create.benefit", "story_create.acceptance.0",
          "story_update.text", "template_render.values.role"}  # fmt: skip
# What stands beside a field for it to have a meaning.
ISSUE = {"gate": "FAIL", "issues": [{"severity": "high", "finding": "It drifts."}]}
BESIDE: dict[str, dict[str, Any]] = {
    "story_update.section": {"text": "Mind the tide."},
    "story_update.text": {"section": "Dev Notes"},
    "gate_record.issues.0.severity": ISSUE,
    "gate_record.issues.0.finding": ISSUE,
    "gate_record.issues.0.suggested_action": ISSUE,
    "gate_record.issues.0.id": ISSUE,
    "gate_record.waived_by": {"gate": "WAIVED"},
    "checklist_run.results.0.note": {"results": [{"item": 1, "mark": "fail"}]},
}
# Sections are edited by those whom they belong to.
ACTING = {"story_update.section": "sm", "story_update.text": "sm"}


def kind_of(operation: Operation, path: Path) -> str:
    """Whether a text is written freely, looked for, remembered as a key of a call, or names something."""
    name = field_name(operation, path)
    if path == (IDEMPOTENCY_FIELD,):
        return "once"
    return "free" if name in FREE else "sought" if name in SOUGHT else "name"


def fields(kind: str) -> Iterator[tuple[Operation, Path]]:
    return ((operation, path) for operation, path in FIELDS if kind_of(operation, path) == kind)


class Project:
    """The project that is written to, and the calls that go well in it."""

    def __init__(self, caller: HostileCaller, sql: asyncpg.Connection, project_id: Any) -> None:
        self.caller, self.sql, self.id = caller, sql, project_id
        self.things: dict[str, Any] = {}

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        told = await self.caller.call(BY_NAME[name], arguments)
        assert told.result is not None, (name, arguments, told)
        return told.result

    async def begin(self) -> None:
        """Make one of each kind, to be read."""
        self.things = {
            "agent": "dev", "epic": "1", "story": "1.1", "template": "story", "checklist": "story-draft",
            "skill": "brownfield-ui", "query": "tide", "kind": "task", "subject": "T-1",
        }  # fmt: skip
        for name in ("task_create", "workflow_start", "handoff_offer", "artifact_record", "memory_store"):
            made = await self.call(name, **await CASES[name](self.call))
            noun, one = next(
                (noun, one) for noun, one in made.items() if isinstance(one, dict) and {*one} & {"key", "id"}
            )
            self.things[noun] = one.get("key") or one.get("id")
        self.things["memories"] = [self.things["memory"]]

    async def arguments(self, operation: Operation, path: Path) -> dict[str, Any]:
        """Arguments with which the operation goes well, whose text at the path can be another."""
        name = self.caller.session = field_name(operation, path)
        if name in ACTING:
            await self.call("agent_activate", agent=ACTING[name])
        if operation.name in CASES:
            return await CASES[operation.name](self.call) | BESIDE.get(name, {})
        if not self.things:
            await self.begin()
        required = operation.arguments.model_fields.items()
        return {name: self.things[name] for name, field in required if field.is_required()}

    async def stored(self, text: str, told: Told, name: str) -> bool:
        """Whether a row that the call wrote holds the text of a field, as a column or in JSON."""
        for table in told.rows:
            rows = await self.sql.fetch(WRITTEN.format(table), self.id, told.since)
            if any(holds([*strings(json.loads(row[0]))], text, name) for row in rows):
                return True
        return False

    async def shown(self, name: str, asked: dict[str, Any], told: Told) -> Any:
        """What the read of a free text shows, or the answer where there is no such read."""
        assert told.result is not None
        read = FREE[name]
        if read is None:
            return told.result
        operation, keys = read
        found = {}
        for argument, place in keys.items():
            noun, _, key = place.partition(".")
            found[argument] = told.result[noun][key] if key and noun in told.result else asked[noun]
        return await self.call(operation, **found)


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def holds(found: list[str], text: str, name: str) -> bool:
    """Whether the text of a field is among these, as it is."""
    return text in found or (name in FRAMED and any(text in one for one in found))


def check_refusal(told: Told, operation: Operation, path: Path) -> None:
    """A refusal names the field, and nothing was written."""
    assert told.is_refused, f"{field_name(operation, path)} took it"
    assert told.code in ("invalid", "not_found"), told
    assert told.field.split(".")[0] == path[0], (field_name(operation, path), told)
    assert not told.rows, (field_name(operation, path), told)


@pytest.fixture(scope="module")
def other(database) -> tuple[uuid.UUID, str]:
    """A project with a canary in every free text that there is, and the canary."""
    canary = f"canary-{uuid.uuid4().hex[:8]}"

    async def filled() -> uuid.UUID:
        pool = await open_pool(**database.app)
        sql = await asyncpg.connect(**database.admin)
        workspace = TestWorkspace(await new_project(pool), database.app)
        async with guarded_server(workspace, is_authenticated=False) as serving:
            found = Project(HostileCaller(serving.client, sql, workspace.opened.id, "none"), sql, workspace.opened.id)
            for operation, its in itertools.groupby(fields("free"), lambda one: one[0]):
                paths = [path for _, path in its]
                arguments = await found.arguments(operation, paths[0])
                for path in paths:
                    arguments |= BESIDE.get(field_name(operation, path), {})
                for path in paths:
                    arguments = placed(arguments, path, canary)
                await found.call(operation.name, **arguments)
        columns = await with_text(sql, workspace.opened.id, canary)
        assert len(columns) > 25, columns
        await sql.close()
        await pool.close()
        return workspace.opened.id

    return asyncio.run(filled()), canary


async def with_text(sql: asyncpg.Connection, project_id: Any, text: str) -> list[str]:
    """The columns of a project's rows that hold the text."""
    found = set()
    for table in [row[0] for row in await sql.fetch(TABLES)]:
        for (row,) in await sql.fetch(f"SELECT to_jsonb(t)::text FROM {table} t WHERE project_id = $1", project_id):
            found |= {f"{table}.{name}" for name, value in json.loads(row).items() if text in json.dumps(value)}
    return sorted(found)


@pytest.fixture
async def project(workspace, database, other):
    """A project beside the one that is full of canaries: that stays as it is, and no answer ever tells of it."""
    other_id, canary = other
    sql = await asyncpg.connect(**database.admin)
    before = await hashed(sql, other_id)
    async with guarded_server(workspace, is_authenticated=False) as serving:
        found = Project(HostileCaller(serving.client, sql, workspace.opened.id, canary), sql, workspace.opened.id)
        yield found
    after = await hashed(sql, other_id)
    assert after == before, [name for name in before if after[name] != before[name]]
    await sql.close()


# In the suite each field gets two of them at once, in turn.
SOME = [False, pytest.param(True, marks=pytest.mark.soak)]


def in_turn(number: int, are_all: bool) -> tuple[str, ...]:
    """What is put into a field."""
    both = f"{QUOTED[number % len(QUOTED)]} {OTHERS[number % len(OTHERS)]}"
    return (*PAYLOADS, PLANES) if are_all else (both, PLANES)


def test_every_text_of_the_catalogue_has_its_kind():
    names = {field_name(operation, path) for operation, path in FIELDS}
    assert len(FIELDS) == len(names) > 160
    assert {one.name for one, _ in FIELDS} == {one.name for one in CATALOG if one.arguments.model_fields} - {
        "epic_burnup", "analytics_overview", "workflow_analytics",
    }  # fmt: skip
    assert names >= {*FREE, *SOUGHT, *BESIDE}


@pytest.mark.parametrize("are_all", SOME)
async def test_a_text_that_names_something_is_refused_by_its_field(project, are_all):
    taken = set()
    given_to: dict[str, dict[str, Any]] = {}
    for number, (operation, path) in enumerate(fields("name")):
        # What stands beside one field is in the way of the next.
        of = field_name(operation, path) if field_name(operation, path) in BESIDE else operation.name
        if of not in given_to:
            given_to[of] = await project.arguments(operation, path)
        async with project.caller.watching() as written:
            # The last has the form of a name.
            for payload in (*PAYLOADS, PLANES) if are_all else (in_turn(number, are_all)[0], OTHERS[-1]):
                told = await project.caller.call(operation, placed(given_to[of], path, payload))
                if operation.scope == "read" and told.result is not None:
                    # Of a name that nothing has, a list is empty.
                    taken.add(field_name(operation, path))
                    assert told.result == {"items": [], "next_cursor": None}, (operation.name, payload, told)
                else:
                    check_refusal(told, operation, path)
        assert written == {}, (operation.name, path, written)
    assert taken == {"activity_list.agent"}


@pytest.mark.parametrize("are_all", SOME)
async def test_a_free_text_comes_back_as_it_was_given_and_changes_nothing_else(project, are_all):
    called = set()
    for number, (operation, path) in enumerate(fields("free")):
        name = field_name(operation, path)
        if operation not in called:
            # What is only so at the first time is not compared.
            await project.call(operation.name, **placed(await project.arguments(operation, path), path, "prd"))
            called.add(operation)
        written, taken = [], []
        for payload in dict.fromkeys((*in_turn(number, are_all), *(OTHERS[-2:] if name in FORMED else ()))):
            asked = placed(await project.arguments(operation, path), path, payload)
            told = await project.caller.watched(operation, asked)
            if told.is_refused and name in FORMED:
                check_refusal(told, operation, path)
                continue
            assert not told.is_refused, (name, payload, told)
            taken.append(payload)
            written.append(told.rows)
            found = [*strings(await project.shown(name, asked, told))]
            assert holds(found, payload, name), (name, payload, found)
            if operation.name == "checklist_run":
                # No read shows a run.
                assert await project.stored(payload, told, name), (name, payload)
        assert taken, f"{name} was never taken"
        assert all(rows == written[0] for rows in written), (name, taken, written)


@pytest.mark.parametrize("are_all", SOME)
async def test_a_text_that_is_looked_for_finds_what_it_says(project, are_all):
    for number, (operation, path) in enumerate(fields("sought")):
        name = field_name(operation, path)
        arguments = await project.arguments(operation, path)
        async with project.caller.watching() as written:
            for payload in (*in_turn(number, are_all), *WILD):
                told = await project.caller.call(operation, placed(arguments, path, payload))
                assert told.result is not None, (name, payload, told)
                if name not in NEAREST:
                    found = [told.result.get(one) for one in ("items", "keys")]
                    found += [one["count"] for one in told.result.get("columns", ())]
                    assert not any(found), (name, payload, told)
        # How looking up went is noted.
        assert {*written} <= {"bmad_memory_integrations"}, (name, written)


@pytest.mark.parametrize("are_all", SOME)
async def test_the_key_of_a_call_is_remembered_as_it_is(project, are_all):
    for number, (operation, path) in enumerate(fields("once")):
        for payload in in_turn(number, are_all)[: None if are_all else 1]:
            asked = placed(await project.arguments(operation, path), path, payload)
            first = await project.caller.watched(operation, asked)
            again = await project.caller.watched(operation, asked)
            assert (first.code, first.rows.get("mcp_idempotency")) == ("", (1, 1)), (operation.name, payload, first)
            assert (again.result, again.rows) == (first.result, {}), (operation.name, payload, again)


LISTS = [one for one in CATALOG if "cursor" in one.arguments.model_fields]


def positions(cursor: str) -> list[Any]:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


@pytest.mark.parametrize("are_all", SOME)
async def test_a_cursor_with_any_text_in_it_is_a_place_in_the_list_or_refused(project, are_all):
    for name in 2 * ("task_create", "workflow_start", "handoff_offer", "artifact_record"):
        await project.call(name, **await CASES[name](project.call))
    texts_in_cursors = 0
    for number, operation in enumerate(LISTS):
        whole = await project.call(operation.name, limit=100)
        first = await project.call(operation.name, limit=1)
        position = positions(first["next_cursor"])
        for at, payload in itertools.product(range(len(position)), in_turn(number, are_all)):
            bent = [payload if place == at else one for place, one in enumerate(position)]
            asked = {"limit": 100, "cursor": encode_cursor(*bent)}
            if len(asked["cursor"]) > 500:
                continue
            told = await project.caller.watched(operation, asked)
            if not isinstance(position[at], str) or told.is_refused:
                check_refusal(told, operation, ("cursor",))
            else:
                texts_in_cursors += 1
                assert told.rows == {}
                assert all(one in whole["items"] for one in told.result["items"]) or whole["next_cursor"]
    assert texts_in_cursors > 10, "no text of a cursor reached the database"


@pytest.mark.parametrize("are_all", SOME)
async def test_texts_in_addresses_prompts_and_completions_find_nothing_else(project, are_all):
    before = await hashed(project.sql, project.id)
    refused = 0
    templates = [one.resource for one in CATALOG if one.resource and "{" in one.resource]
    payloads = (*in_turn(1, are_all), OTHERS[-1])
    prompts = [(one.name, argument.name) for one in PROMPTS.values() for argument in one.arguments or []]
    assert (len(templates), len(prompts)) == (8, 3)
    for payload in payloads:
        escaped = quote(payload, safe="")
        uris = [
            template[: template.index("{")] + escaped + template[template.index("}") + 1 :] for template in templates
        ]
        asked: list[tuple[str, dict[str, Any]]] = [
            ("resources/read", {"uri": uri}) for uri in (*uris, f"skill://{escaped}/SKILL.md", f"bmad://{escaped}")
        ]
        asked += [("skills/get", {"uri": f"skill://{escaped}/SKILL.md"}), ("skills/list", {"cursor": payload})]
        asked += [("skills/list", {"cursor": encode_cursor(payload, 1)})]
        asked += [("prompts/get", {"name": payload}), ("tools/call", {"name": payload, "arguments": {}})]
        asked += [("prompts/get", {"name": "handoff", "arguments": {"to": "qa", "task": payload}})]
        asked += [("prompts/get", {"name": name, "arguments": {argument: payload}}) for name, argument in prompts]
        for method, params in asked:
            answer = json.loads((await project.caller.post(method, params)).text.split("data: ")[-1])
            if method == "tools/call":
                assert answer["result"]["_meta"]["bmad/code"] == "not_found"
            else:
                assert answer["error"]["code"] == -32602, (method, params, answer)
            refused += 1
        completed = [
            ({"type": "ref/resource", "uri": one}, one[one.index("{") + 1 : one.index("}")]) for one in templates
        ]
        completed += [({"type": "ref/prompt", "name": name}, argument) for name, argument in prompts]
        for ref, argument in (*completed, (completed[0][0], payload)):
            params = {"ref": ref, "argument": {"name": argument, "value": payload}}
            answer = json.loads((await project.caller.post("completion/complete", params)).text.split("data: ")[-1])
            assert answer["result"]["completion"]["values"] == [], (params, answer)
    assert refused == len(payloads) * 19
    assert await hashed(project.sql, project.id) == before


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from("\x00\x01\x1b\x7f\u0085\u202e\u2066\ud800\udfff\ufeff\uffff\U000e0041\U0010ffff'\"\\%_${}"),
    min_size=1,
)


@settings(max_examples=MOST, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FIELDS), ANY_TEXT)
async def test_any_character_in_any_text_is_stored_or_refused(project, field, text):
    operation, path = field
    name = field_name(operation, path)
    # Two halves of a pair are one character in JSON.
    text = json.loads(json.dumps(text))
    told = await project.caller.watched(operation, placed(await project.arguments(operation, path), path, text))
    if told.is_refused:
        assert told.code == "framing" or told.field.split(".")[0] == path[0], (name, text, told)
        assert not told.rows, (name, text, told)
    elif kind_of(operation, path) == "free" and operation.name != "template_render" and text.strip():
        # Some are kept without blanks around them, on one line, or without blank lines.
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        forms = {text, text.strip(), " ".join(text.split()), "\n".join(lines)}
        assert any([await project.stored(one, told, name) for one in forms]), (name, text)
