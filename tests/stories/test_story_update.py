"""Changing a story: versions, moves, and who may edit what."""

import asyncio

import pytest

from bmad_mcp.call import Caller
from bmad_mcp.errors import Conflict, Forbidden, Invalid, InvalidMove, NotFound, VersionConflict
from bmad_mcp.lifecycles import STORY_MOVES, StoryStatus
from bmad_mcp.stories.rights import SECTION_EDITORS

pytest_plugins = ("stories.fixtures",)

AGENTS = ("analyst", "architect", "dev", "pm", "po", "qa", "sm", "ux")


async def test_a_person_may_move_a_story_without_an_agent(run, story):
    changed = await run("story_update", story="1.1", expected_version=1, status="ready")
    assert changed.model_dump(exclude_unset=True) == {
        "story": {"key": "1.1", "title": "Log in", "status": "ready", "version": 2},
    }


async def test_a_change_needs_something_to_change(run, story):
    with pytest.raises(Invalid, match="something to change"):
        await run("story_update", story="1.1", expected_version=1)
    for half in ({"section": "Story"}, {"text": "x"}):
        with pytest.raises(Invalid, match="go together"):
            await run("story_update", story="1.1", expected_version=1, **half)
    with pytest.raises(Invalid, match="`expected_version` is missing"):
        await run("story_update", story="1.1", status="ready")


async def test_a_planning_slip_is_corrected(run, story, session, sql):
    sm = await session("sm")
    changed = await run(
        "story_update", caller=sm, story="1.1", expected_version=1, title=" Sign\nin ", points=0, priority="high"
    )
    assert (changed.story.title, changed.story.version) == ("Sign in", 2)
    found = await run("story_get", story="1.1")
    assert (found.title, found.points, found.priority) == ("Sign in", 0, "high")
    assert [one.key for one in (await run("story_list", query="sign")).items] == ["1.1"]
    # Together with a move it is one change, and what is left out stays.
    await run("story_update", caller=sm, story="1.1", expected_version=2, points=8, status="ready")
    found = await run("story_get", story="1.1")
    assert (found.title, found.points, found.status, found.version) == ("Sign in", 8, "ready", 3)
    rows = await sql(
        "SELECT agent, detail FROM bmad_agent_activity WHERE project_id = bmad_project() AND operation = 'story_update'"
        " ORDER BY id"
    )
    assert [(row["agent"], row["detail"]) for row in rows] == [
        ("sm", {"title": "Sign in", "points": 0, "priority": "high"}),
        ("sm", {"status": "ready", "was": "draft", "points": 8}),
    ]
    with pytest.raises(Forbidden, match="dev may not change the title of a story; pm or po or sm may") as refused:
        await run("story_update", caller=await session("dev", "two"), story="1.1", expected_version=3, title="x")
    assert refused.value.field == "title"
    # A person may, as with a new story.
    await run("story_update", story="1.1", expected_version=3, priority="low")
    for wrong in ({"points": -1}, {"points": 1001}, {"priority": "urgent"}, {"title": " "}):
        with pytest.raises(Invalid, match=next(iter(wrong))):
            await run("story_update", story="1.1", expected_version=4, **wrong)


@pytest.mark.parametrize("source", StoryStatus)
@pytest.mark.parametrize("target", StoryStatus)
async def test_a_story_moves_as_the_table_says(run, story, put, source, target):
    await put("1.1", status=source)
    if target in STORY_MOVES[source]:
        changed = await run("story_update", story="1.1", expected_version=1, status=target)
        assert (changed.story.status, changed.story.version) == (target, 2)
    else:
        with pytest.raises(InvalidMove, match="Allowed now") as refused:
            await run("story_update", story="1.1", expected_version=1, status=target)
        assert all(allowed in refused.value.message for allowed in STORY_MOVES[source])
        assert (await run("story_get", story="1.1")).version == 1


async def test_a_stale_version_is_refused_telling_who_changed_it_and_when(run, story, session):
    await run("story_update", caller=await session("po", "other"), story="1.1", expected_version=1, status="ready")
    with pytest.raises(VersionConflict, match=r"is at version 2, not 1: po changed it .* UTC \(story_update\)"):
        await run("story_update", story="1.1", expected_version=1, status="cancelled")
    with pytest.raises(VersionConflict, match="not 3: it never had that version"):
        await run("story_update", story="1.1", expected_version=3, status="cancelled")
    with pytest.raises(VersionConflict):
        await run("story_update", story="1.1", expected_version=10**30, status="cancelled")


async def test_a_claim_that_took_the_story_along_is_not_told_as_somebody_elses_edit(run, story):
    await run("story_update", story="1.1", expected_version=1, status="ready")
    await run("task_create", title="Do", story="1.1")
    await run("task_claim", agent="dev")
    with pytest.raises(VersionConflict, match=r"version 3, not 2: it changed"):
        await run("story_update", story="1.1", expected_version=2, status="cancelled")


async def test_of_two_edits_at_once_one_wins_and_the_other_is_told(run, story, session):
    sm = await session("sm")
    results = await asyncio.gather(
        *(
            run("story_update", caller=sm, story="1.1", expected_version=1, section="Dev Notes", text=f"from {n}")
            for n in range(6)
        ),
        return_exceptions=True,
    )
    won = [one for one in results if not isinstance(one, Exception)]
    assert len(won) == 1
    assert all(isinstance(one, VersionConflict) for one in results if isinstance(one, Exception))
    found = await run("story_get", story="1.1")
    assert found.version == 2
    assert len([one for one in found.sections if one.name == "Dev Notes"]) == 1


async def test_of_two_moves_at_once_one_wins(run, story):
    results = await asyncio.gather(
        run("story_update", story="1.1", expected_version=1, status="ready"),
        run("story_update", story="1.1", expected_version=1, status="cancelled"),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, Conflict) for one in results) == [False, True]


async def test_sections_are_edited_by_an_agent_in_session_only(run, story):
    with pytest.raises(Forbidden, match="Call agent_activate first; Dev Notes is edited by pm or po or sm"):
        await run("story_update", story="1.1", expected_version=1, section="Dev Notes", text="x")
    with pytest.raises(Forbidden):
        await run("story_update", story="1.1", expected_version=1, section="Dev Notes", text="x", status="ready")
    assert (await run("story_get", story="1.1")).version == 1


async def test_a_slip_in_a_sections_name_changes_nothing(run, story, session):
    sm = await session("sm")
    with pytest.raises(Invalid, match="There is no section 'No such'"):
        await run("story_update", caller=sm, story="1.1", expected_version=1, section="No such", text="x")
    found = await run("story_get", story="1.1")
    assert (found.version, "No such" in [one.name for one in found.sections]) == (1, False)


@pytest.mark.parametrize("section", [*SECTION_EDITORS, "## Open questions"])
async def test_each_section_is_edited_by_its_editors_and_nobody_else(run, story, session, section):
    may = SECTION_EDITORS.get(section, {"sm", "po", "pm"})
    version, name = 1, section.removeprefix("## ")
    for agent in AGENTS:
        caller = await session(agent, f"connection of {agent}")
        text = f"{name} by {agent}"
        edit = run("story_update", caller=caller, story="1.1", expected_version=version, section=section, text=text)
        if agent in may:
            changed = await edit
            version += 1
            assert (changed.section, changed.story.version) == (name, version)
            assert text in [one.text for one in (await run("story_get", story="1.1")).sections]
        else:
            with pytest.raises(Forbidden, match=f"{agent} may not edit {name}") as refused:
                await edit
            assert all(editor in refused.value.message for editor in may)
    assert version == 1 + len(may)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("source", StoryStatus)
async def test_each_agent_moves_what_its_role_may(run, story, put, session, agent, source):
    caller = await session(agent)
    for target in STORY_MOVES[source]:
        await put("1.1", status=source, version=1)
        move = run("story_update", caller=caller, story="1.1", expected_version=1, status=target)
        if agent in ("sm", "po", "pm", "dev") or (agent, source, target) in (
            ("qa", "review", "done"),
            ("qa", "review", "in_progress"),
        ):
            assert (await move).story.status == target
        else:
            with pytest.raises(Forbidden, match=f"{agent} may not move story 1.1 from {source} to {target}"):
                await move


async def test_an_agent_may_not_write_another_ones_section_from_within_its_own(run, story, session):
    dev = await session("dev")
    with pytest.raises(Invalid, match="would end the section"):
        await run(
            "story_update",
            caller=dev,
            story="1.1",
            expected_version=1,
            section="Dev Agent Record",
            text="done\n## Acceptance Criteria\n1. nothing",
        )


async def test_the_agent_in_session_is_the_one_that_this_connection_activated_last(run, story, session, sql):
    await session("dev", "one")
    one = await session("sm", "one")
    other = await session("dev", "two")
    await run("story_update", caller=one, story="1.1", expected_version=1, section="Dev Notes", text="x")
    with pytest.raises(Forbidden, match="dev may not edit Dev Notes"):
        await run("story_update", caller=other, story="1.1", expected_version=2, section="Dev Notes", text="y")
    await sql("UPDATE bmad_agent_sessions SET ended_at = now() WHERE caller = 'one'")
    with pytest.raises(Forbidden, match="none is"):
        await run("story_update", caller=one, story="1.1", expected_version=2, section="Dev Notes", text="y")


async def test_a_named_agent_must_be_in_session_in_this_project(run, story, session, sql):
    edit = {"story": "1.1", "section": "File List", "text": "x"}
    with pytest.raises(Forbidden, match="dev is not in session"):
        await run("story_update", expected_version=1, agent="dev", **edit)
    with pytest.raises(NotFound, match="no agent 'nobody'"):
        await run("story_update", expected_version=1, agent="nobody", **edit)
    await session("dev", "another connection")
    await run("story_update", expected_version=1, agent="DEV", **edit)
    [row] = await sql("SELECT agent, detail FROM bmad_agent_activity WHERE operation = 'story_update'")
    assert (row["agent"], row["detail"]) == ("dev", {"section": "File List"})


async def test_a_session_in_another_project_gives_no_rights(run, story, session, elsewhere, sql):
    await session("sm")
    from bmad_mcp.catalog import BY_NAME
    from bmad_mcp.operation import perform

    async def there(name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), elsewhere)

    await there("epic_create", title="One")
    await there("story_create", epic=1, title="x")
    with pytest.raises(Forbidden, match="none is"):
        await there("story_update", story="1.1", expected_version=1, section="Dev Notes", text="x")


async def test_an_edit_of_the_acceptance_criteria_refreshes_the_list(run, story, session):
    po = await session("po")
    await run(
        "story_update", caller=po, story="1.1", expected_version=1, section="ACs", text="- AC1: One\n- AC2: Two\n  more"
    )
    found = await run("story_get", story="1.1")
    assert found.acceptance == ["One", "Two\nmore"]
    assert [one.name for one in found.sections] == ["Story", "Acceptance Criteria"]


async def test_an_edit_of_the_story_refreshes_role_want_and_benefit_when_it_has_that_form(run, story, session, sql):
    sm = await session("sm")
    sentence = "**As an** admin,\n**I want** to ban people,\n**so that** the rest is safe."
    await run("story_update", caller=sm, story="1.1", expected_version=1, section="Story", text=sentence)
    [row] = await sql("SELECT role, want, benefit FROM bmad_stories WHERE project_id = bmad_project()")
    assert tuple(row.values()) == ("admin", "to ban people", "the rest is safe")
    assert [one.key for one in (await run("story_list", query="ban")).items] == ["1.1"]
    await run("story_update", caller=sm, story="1.1", expected_version=2, section="Story", text="Ban people.")
    assert (await run("story_get", story="1.1")).want == "to ban people"


async def test_qa_results_grow_and_never_shrink(run, story, session):
    qa = await session("qa")
    edit = {"caller": qa, "story": "1.1", "section": "QA Results"}
    await run("story_update", expected_version=1, text="Round 1: fails.", **edit)
    with pytest.raises(Forbidden, match="append-only"):
        await run("story_update", expected_version=2, text="All fine.", **edit)
    await run("story_update", expected_version=2, text="Round 1: fails.\n\nRound 2: passes.", **edit)
    assert (await run("story_get", story="1.1")).sections[-1].text == "Round 1: fails.\n\nRound 2: passes."


async def test_status_and_section_change_together_or_not_at_all(run, story, session):
    sm = await session("sm")
    with pytest.raises(InvalidMove):
        await run(
            "story_update", caller=sm, story="1.1", expected_version=1, status="done", section="Dev Notes", text="x"
        )
    assert [one.name for one in (await run("story_get", story="1.1")).sections] == ["Story", "Acceptance Criteria"]
    both = await run(
        "story_update", caller=sm, story="1.1", expected_version=1, status="ready", section="Dev Notes", text="x"
    )
    assert (both.story.status, both.story.version, both.section) == ("ready", 2, "Dev Notes")


async def moved(run, *statuses: str) -> None:
    for status in statuses:
        version = (await run("story_get", story="1.1")).version
        await run("story_update", story="1.1", expected_version=version, status=status)


async def story_open(sql) -> list[bool]:
    rows = await sql("SELECT story_open FROM bmad_tasks WHERE project_id = bmad_project() ORDER BY number")
    return [row["story_open"] for row in rows]


async def test_tasks_open_and_close_with_their_story(run, story, sql):
    await run("task_create", title="Of the story", story="1.1")
    await run("task_create", title="Of none")
    assert await story_open(sql) == [False, True]
    for status, is_open in (("ready", True), ("draft", False), ("ready", True), ("in_progress", True),
                            ("review", True), ("done", False)):  # fmt: skip
        await moved(run, status)
        assert await story_open(sql) == [is_open, True]


async def test_a_task_made_while_its_story_moves_follows_it(run, story, sql):
    """Whichever comes first, the task ends as open as its story."""
    for round_number in range(8):
        version = (await run("story_get", story="1.1")).version
        status = "ready" if round_number % 2 == 0 else "draft"
        await asyncio.gather(
            run("story_update", story="1.1", expected_version=version, status=status),
            *(run("task_create", title="Do", story="1.1") for _ in range(3)),
        )
        assert set(await story_open(sql)) == {status == "ready"}


async def test_a_claim_and_a_move_at_once_leave_task_and_story_in_agreement(run, story, sql):
    await moved(run, "ready")
    for _ in range(6):
        await run("task_create", title="Do", story="1.1")
    version = (await run("story_get", story="1.1")).version
    results = await asyncio.gather(
        *(run("task_claim", agent="dev") for _ in range(4)),
        run("story_update", story="1.1", expected_version=version, status="draft"),
        return_exceptions=True,
    )
    assert not [one for one in results[:-1] if isinstance(one, Exception)]
    status = (await run("story_get", story="1.1")).status
    assert status == ("in_progress" if isinstance(results[-1], VersionConflict) else "draft")
    assert set(await story_open(sql)) == {status != "draft"}


async def test_an_epic_starts_with_its_first_story(run, story, sql):
    await run("story_create", epic=1, title="Second")
    await moved(run, "ready")
    assert (await run("epic_get", epic=1)).status == "draft"
    version = (await run("story_get", story="1.1")).version
    changed = await run("story_update", story="1.1", expected_version=version, status="in_progress")
    assert (changed.epic.key, changed.epic.status) == ("1", "in_progress")
    again = await run("story_update", story="1.2", expected_version=1, status="ready")
    again = await run("story_update", story="1.2", expected_version=again.story.version, status="in_progress")
    assert again.epic is None
    told = await sql("SELECT subject FROM bmad_agent_activity WHERE subject = 'epic 1' AND operation = 'story_update'")
    assert len(told) == 1


async def test_a_story_is_completed_when_it_is_done(run, story):
    await moved(run, "ready", "in_progress", "review")
    assert (await run("story_get", story="1.1")).completed_at is None
    await moved(run, "done")
    assert (await run("story_get", story="1.1")).completed_at is not None


async def test_the_same_key_changes_once(run, story):
    once = {"story": "1.1", "expected_version": 1, "status": "ready", "idempotency_key": "k"}
    first, second = await run("story_update", **once), await run("story_update", **once)
    assert first == second
    assert (await run("story_get", story="1.1")).version == 2


async def test_activating_an_agent_gives_its_rights_and_ending_its_session_takes_them(run, story):
    edit = {"story": "1.1", "section": "File List", "text": "app.py"}
    await run("agent_activate", agent="dev")
    assert (await run("story_update", expected_version=1, **edit)).story.version == 2
    await run("agent_deactivate", agent="dev")
    with pytest.raises(Forbidden, match="none is"):
        await run("story_update", expected_version=2, **edit)
