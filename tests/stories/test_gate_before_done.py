"""A story's move to done asks its gate where the project's own configuration says so."""

import asyncio

import pytest
from bmad_installs import V4, V6, add_v4_docs, add_v6_docs, installed

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.errors import Forbidden, InvalidMove, VersionConflict

pytest_plugins = ("stories.fixtures",)

GATES = (None, "PASS", "CONCERNS", "FAIL", "WAIVED")


@pytest.fixture
def configure(sql):
    """Sets what an import would have kept of the configuration."""

    async def set_config(**config):
        await sql(
            "UPDATE bmad_projects SET settings = settings || jsonb_build_object('bmad', $1::jsonb)"
            " WHERE id = bmad_project()",
            {"config": config},
        )

    return set_config


async def record(run, gate, story="1.1"):
    waived = {"waived_by": "Ann"} if gate == "WAIVED" else {}
    return await run("gate_record", story=story, gate=gate, reason="As reviewed.", **waived)


async def finish(run, story="1.1", **more):
    version = (await run("story_get", story=story)).version
    return await run("story_update", story=story, expected_version=version, status="done", **more)


STRICT = ("PASS", "WAIVED")
LENIENT = ("PASS", "WAIVED", "CONCERNS")
RULES = [
    ({}, GATES),
    ({"v4": {"qa": {"qaLocation": "docs/qa"}}}, GATES),
    ({"v4": {"qa": {"gateRequired": False}}, "v6": {"gate_required": False}}, GATES),
    ({"v4": {"qa": {"gateRequired": None}}}, GATES),
    ({"v4": {"qa": {"gateRequired": "no"}}}, GATES),
    ({"v4": {"qa": "gateRequired"}, "v6": []}, GATES),
    ({"v4": {"qa": {"gateRequired": {"odd": True}}}}, GATES),
    ({"v4": {"qa": {"gateRequired": True}}}, STRICT),
    ({"v4": {"qa": {"gateRequired": "Yes"}}}, STRICT),
    ({"v4": {"qa": {"gateRequired": "concerns"}}}, LENIENT),
    ({"v6": {"gate_required": True}}, STRICT),
    ({"v6": {"gate_required": "true"}}, STRICT),
    ({"v6": {"gate_required": "Concerns"}}, LENIENT),
    ({"v4": {"qa": {"gateRequired": "concerns"}}, "v6": {"gate_required": True}}, STRICT),
    ({"v4": {"qa": {"gateRequired": True}}, "v6": {"gate_required": False}}, STRICT),
]


@pytest.mark.parametrize(("config", "passing"), RULES)
@pytest.mark.parametrize("gate", GATES)
async def test_a_story_is_done_as_the_configuration_says(run, story, put, configure, config, passing, gate):
    await configure(**config)
    await put("1.1", status="review")
    if gate:
        recorded = await record(run, gate)
        may = f"story_update story=1.1 expected_version={recorded.story.version} status=done"
        assert recorded.next.startswith(may) == (gate in passing and gate != "FAIL")
    assert (await run("gate_get", story="1.1")).required == (passing is not GATES)
    if gate in passing:
        assert (await finish(run)).story.status == "done"
        return
    has = f"its gate is {gate}" if gate else "it has no gate"
    with pytest.raises(InvalidMove, match=rf"1\.1 cannot become done: .*{has}.*gate_record") as refused:
        await finish(run)
    assert refused.value.field == "status"
    assert ("or CONCERNS" in refused.value.message) == (passing is LENIENT)
    assert (await run("story_get", story="1.1")).status == "review"


async def test_a_refused_move_writes_nothing(run, story, put, configure, sql, session):
    await configure(v4={"qa": {"gateRequired": True}})
    await put("1.1", status="review")
    qa = await session("qa")
    with pytest.raises(InvalidMove):
        await finish(run, caller=qa, section="QA Results", text="Fine.")
    found = await run("story_get", story="1.1")
    assert (found.version, found.status, found.completed_at) == (1, "review", None)
    assert [one.name for one in found.sections] == ["Story", "Acceptance Criteria"]
    assert not await sql(
        "SELECT FROM bmad_agent_activity WHERE operation = 'story_update' AND project_id = bmad_project()"
    )


async def test_other_refusals_come_first(run, story, put, configure, session):
    await configure(v4={"qa": {"gateRequired": True}})
    with pytest.raises(InvalidMove, match=r"Allowed now: cancelled or ready by story_update\(status\)"):
        await finish(run)
    await put("1.1", status="review")
    with pytest.raises(VersionConflict):
        await run("story_update", story="1.1", expected_version=7, status="done")
    with pytest.raises(Forbidden, match="architect may not move"):
        await finish(run, caller=await session("architect", "of architect"))


async def test_every_other_move_and_edit_goes_on(run, story, configure, session):
    await configure(v4={"qa": {"gateRequired": True}})
    for version, status in enumerate(("ready", "in_progress", "review", "in_progress", "review", "cancelled"), start=1):
        await run("story_update", story="1.1", expected_version=version, status=status)
    sm = await session("sm")
    await run("story_update", caller=sm, story="1.1", expected_version=7, section="Dev Notes", text="x")


async def test_the_last_task_takes_a_story_to_review_and_never_past_its_gate(run, story, configure):
    await configure(v4={"qa": {"gateRequired": True}})
    await run("story_update", story="1.1", expected_version=1, status="ready")
    await run("task_create", title="Do", story="1.1")
    claimed = await run("task_claim", agent="dev")
    done = await run("task_complete", task="T-1", lease=claimed.lease)
    assert done.story.status == "review"
    with pytest.raises(InvalidMove, match="it has no gate"):
        await finish(run)


async def test_a_gate_of_another_project_or_its_rule_does_not_count(run, story, put, configure, elsewhere):
    from bmad_mcp.call import Caller
    from bmad_mcp.catalog import BY_NAME
    from bmad_mcp.operation import perform

    async def there(name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), elsewhere)

    await configure(v4={"qa": {"gateRequired": True}})
    await there("epic_create", title="One")
    await there("story_create", epic="1", title="x")
    await there("gate_record", story="1.1", gate="PASS", reason="x")
    for version, status in enumerate(("ready", "in_progress", "review", "done"), start=2):
        await there("story_update", story="1.1", expected_version=version, status=status)
    await put("1.1", status="review")
    with pytest.raises(InvalidMove, match="it has no gate"):
        await finish(run)


async def test_a_gate_that_falls_while_the_story_is_finished_is_not_passed_over(run, story, put, configure):
    """Whichever comes first, a story that is done had a gate that passed."""
    await configure(v4={"qa": {"gateRequired": True}})
    for _ in range(8):
        await put("1.1", status="review")
        version = (await record(run, "PASS")).story.version
        moved, gate = await asyncio.gather(
            run("story_update", story="1.1", expected_version=version, status="done"),
            record(run, "FAIL"),
            return_exceptions=True,
        )
        assert not isinstance(gate, Exception)
        if isinstance(moved, Exception):
            assert isinstance(moved, VersionConflict)
        else:
            assert gate.story.status == "done"


async def test_a_real_v4_project_asks_for_its_gate(run, workspace, tmp_path):
    folder = add_v4_docs(installed(V4, tmp_path / "shop"))
    config = folder / ".bmad-core/core-config.yaml"
    text = config.read_text()
    config.write_text(text.replace("qa:\n", "qa:\n  gateRequired: true\n", 1))
    assert config.read_text() != text
    await import_folder(workspace.opened, folder)
    in_review = [one.key for one in (await run("story_list", status="review")).items]
    assert in_review
    for key in in_review:
        assert (await run("gate_get", story=key)).required
        await record(run, "CONCERNS", key)
        with pytest.raises(InvalidMove, match="its gate is CONCERNS"):
            await finish(run, key)
        await record(run, "PASS", key)
        assert (await finish(run, key)).story.status == "done"
    config.write_text(text)
    await import_folder(workspace.opened, folder)
    assert not (await run("gate_get", story=in_review[0])).required


@pytest.mark.parametrize("where", ["config.yaml", "config.toml"])
async def test_a_real_v6_project_asks_for_its_gate(run, workspace, tmp_path, where):
    folder = add_v6_docs(installed(V6, tmp_path / "shop"))
    if where == "config.yaml":
        path = folder / "_bmad/bmm/config.yaml"
        path.write_text(path.read_text() + "\ngate_required: concerns\n")
    else:
        path = folder / "_bmad/config.toml"
        text = path.read_text()
        path.write_text(text.replace("[modules.bmm]\n", '[modules.bmm]\ngate_required = "concerns"\n', 1))
        assert path.read_text() != text
    await import_folder(workspace.opened, folder)
    [key, *_] = [one.key for one in (await run("story_list")).items]
    assert (await run("gate_get", story=key)).required
