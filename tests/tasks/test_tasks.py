"""Tasks: making, finding, claiming, keeping, finishing."""

import asyncio
from datetime import timedelta

import pytest

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction
from bmad_mcp.errors import Conflict, Invalid, InvalidMove, LeaseLost, NotFound, VersionConflict
from bmad_mcp.operation import perform


async def sql(workspace, statement: str, *values):
    """Change the database behind the operations' back, to make time pass."""
    transaction = Transaction(workspace.opened.pool, workspace.opened.id)
    try:
        return await transaction.fetch(statement, *values)
    finally:
        await transaction.end("COMMIT")


async def let_the_lease_pass(workspace, key: str) -> None:
    await sql(
        workspace,
        "UPDATE bmad_tasks SET lease_until = now() - interval '1 second' WHERE project_id = bmad_project()"
        " AND number = $1",
        int(key[2:]),
    )


async def test_a_title_is_one_line_as_those_of_stories_are(run):
    await run("task_create", title=" Draw\n the  tide\ttable ")
    assert (await run("task_get", task="T-1")).task.title == "Draw the tide table"
    await run("task_update", task="T-1", title="Print\nit")
    assert (await run("task_get", task="T-1")).task.title == "Print it"


async def test_a_task_is_made_with_a_short_key_and_found_again(run):
    made = (
        await run("task_create", title="Write the parser", description="All of it", agent="dev", priority="high")
    ).task
    assert (made.key, made.status, made.priority, made.version) == ("T-1", "pending", "high", 1)
    found = (await run("task_get", task="T-1")).task
    assert (found.title, found.description, found.agent, found.ready) == ("Write the parser", "All of it", "dev", True)
    assert [event.operation for event in found.history] == ["task_create"]


async def test_the_trail_names_the_agent_in_session_as_the_maker(run):
    await run("task_create", title="Before", agent="dev")
    await run("agent_activate", agent="sm")
    await run("task_create", title="After", agent="dev")
    made = {key: (await run("task_get", task=key)).task.history[0].agent for key in ("T-1", "T-2")}
    assert made == {"T-1": None, "T-2": "sm"}


@pytest.mark.parametrize("written", ["T-1", "t-1", "1", " T-1 ", 1])
async def test_a_key_may_be_written_as_people_write_it(run, written):
    await run("task_create", title="One")
    assert (await run("task_get", task=written)).task.key == "T-1"


async def test_an_unknown_task_is_told_with_what_to_do(run):
    with pytest.raises(NotFound, match=r"no task T-9\. task_list"):
        await run("task_get", task="T-9")


async def test_a_task_is_not_seen_from_another_project(run, pool):
    from harness import TestWorkspace, new_project

    from bmad_mcp.call import Caller
    from bmad_mcp.catalog import BY_NAME
    from bmad_mcp.operation import perform

    await run("task_create", title="Secret")
    other = TestWorkspace(await new_project(pool))
    with pytest.raises(NotFound):
        await perform(BY_NAME["task_get"], {"task": "T-1"}, Caller(), other)
    assert (await perform(BY_NAME["task_list"], {}, Caller(), other)).items == []
    with pytest.raises(NotFound, match="depends_on"):
        await perform(BY_NAME["task_create"], {"title": "x", "depends_on": ["T-1"]}, Caller(), other)


async def test_a_list_pages_through_every_task_once(run):
    for number in range(7):
        await run("task_create", title=f"Task {number}")
    seen, cursor = [], None
    while True:
        page = await run("task_list", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [item.key for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"T-{number}" for number in range(1, 8)]


async def test_a_list_can_be_narrowed(run):
    await run("task_create", title="a", agent="dev")
    await run("task_create", title="b", agent="qa", depends_on=["T-1"])
    await run("task_claim", agent="dev")
    assert [item.key for item in (await run("task_list", agent="qa")).items] == ["T-2"]
    assert [item.key for item in (await run("task_list", status="active")).items] == ["T-1"]
    assert (await run("task_list", ready=True)).items == []


async def test_the_best_ready_task_of_the_role_is_claimed_first(run):
    await run("task_create", title="low", agent="dev", priority="low")
    await run("task_create", title="others", agent="qa", priority="critical")
    await run("task_create", title="anybody", priority="high")
    await run("task_create", title="mine", agent="dev", priority="high")
    order = [(await run("task_claim", agent="dev")).task.key for _ in range(3)]
    assert order == ["T-3", "T-4", "T-1"]
    nothing = await run("task_claim", agent="dev")
    assert nothing.task is None
    assert "No task is ready for dev" in nothing.why
    assert nothing.model_dump(exclude_unset=True)["task"] is None


async def test_a_claim_gives_a_lease_and_another_claim_is_refused(run):
    await run("task_create", title="one", agent="dev")
    claim = await run("task_claim", agent="dev", lease_seconds=60)
    assert (claim.task.status, claim.lease, claim.task.held_by) == ("active", 1, "dev")
    with pytest.raises(Conflict, match="held by dev until"):
        await run("task_claim", agent="qa", task="T-1")
    with pytest.raises(Conflict, match="held by dev until"):
        await run("task_start", agent="dev", task="T-1")


async def test_start_keeps_the_lease_of_the_holder_and_never_shortens_it(run):
    await run("task_create", title="one")
    claimed = await run("task_claim", agent="dev", lease_seconds=7200)
    started = await run("task_start", task="T-1", agent="dev", lease=claimed.lease)
    assert (started.task.status, started.lease, started.lease_until) == ("in_progress", 1, claimed.lease_until)
    assert (await run("task_heartbeat", task="T-1", lease=1)).lease_until > claimed.lease_until
    longer = await run("task_start", task="T-1", agent="dev", lease=1, lease_seconds=80_000)
    assert (longer.lease, longer.lease_until - claimed.lease_until > timedelta(hours=20)) == (1, True)
    assert (await run("task_complete", task="T-1", lease=1)).task.status == "completed"


async def test_start_of_a_lease_that_passed_or_of_another_agent_is_a_new_claim(run, workspace):
    await run("task_create", title="one")
    await run("task_claim", agent="dev")
    await let_the_lease_pass(workspace, "T-1")
    assert (await run("task_start", task="T-1", agent="dev", lease=1)).lease == 2
    with pytest.raises(Conflict, match="held by dev until"):
        await run("task_start", task="T-1", agent="qa", lease=2)
    with pytest.raises(Conflict, match="held by dev until"):
        await run("task_start", task="T-1", agent="dev", lease=1)
    await run("task_complete", task="T-1", lease=2)


async def test_the_holder_who_forgot_the_lease_is_told_to_pass_it(run):
    await run("task_create", title="one")
    lease = (await run("task_claim", agent="dev")).lease
    with pytest.raises(Conflict, match="If that is you, pass its `lease`, which task_get shows: task_start keeps it"):
        await run("task_start", task="T-1", agent="dev")
    with pytest.raises(Conflict, match="go on with it, without another claim"):
        await run("task_claim", task="T-1", agent="dev")
    with pytest.raises(Conflict) as others:
        await run("task_start", task="T-1", agent="qa")
    assert "If that is you" not in others.value.message
    with pytest.raises(LeaseLost, match=r"7 is not the current lease .* passes the `lease` that task_get shows"):
        await run("task_complete", task="T-1", lease=7)
    assert (await run("task_get", task="T-1")).task.lease == lease


async def test_completion_frees_what_waited_and_only_when_all_is_done(run):
    await run("task_create", title="a")
    await run("task_create", title="b")
    await run("task_create", title="c", depends_on=["T-1", "T-2"])
    with pytest.raises(Conflict, match=r"waits for 2 unfinished") as refused:
        await run("task_claim", agent="dev", task="T-3")
    assert refused.value.field == "task"
    first = await run("task_claim", agent="dev", task="T-1")
    done = await run("task_complete", task="T-1", lease=first.lease, summary="ok", quality=90, artifacts=["src/a.py"])
    assert (done.task.status, done.unblocked) == ("completed", [])
    second = await run("task_claim", agent="dev", task="T-2")
    assert (await run("task_complete", task="T-2", lease=second.lease)).unblocked == ["T-3"]
    assert (await run("task_get", task="T-3")).task.ready is True
    finished = (await run("task_get", task="T-1")).task
    assert (finished.summary, finished.quality) == ("ok", 90)


async def test_a_task_made_to_wait_for_a_finished_one_is_ready(run):
    await run("task_create", title="a")
    claim = await run("task_claim", agent="dev")
    await run("task_complete", task="T-1", lease=claim.lease)
    await run("task_create", title="b", depends_on=["T-1"])
    assert (await run("task_get", task="T-2")).task.ready is True


async def test_a_cancelled_dependency_frees_and_a_reopened_one_holds_again(run):
    await run("task_create", title="a")
    await run("task_create", title="b", depends_on=["T-1"])
    await run("task_update", task="T-1", status="cancelled")
    assert (await run("task_get", task="T-2")).task.ready is True
    await run("task_update", task="T-1", status="pending")
    assert (await run("task_get", task="T-2")).task.waits_for == ["T-1"]


async def test_circles_are_refused_and_shown(run):
    await run("task_create", title="a")
    await run("task_create", title="b", depends_on=["T-1"])
    await run("task_create", title="c", depends_on=["T-2"])
    with pytest.raises(Conflict, match="T-1 → T-3 → T-2 → T-1 is a circle"):
        await run("task_update", task="T-1", depends_on=["T-3"])
    with pytest.raises(Conflict, match="circle"):
        await run("task_update", task="T-1", depends_on=["T-1"])
    assert (await run("task_get", task="T-1")).task.depends_on is None


async def test_two_edits_at_once_cannot_close_a_circle(run):
    for _ in range(5):
        a, b = (await run("task_create", title="a")).task.key, (await run("task_create", title="b")).task.key
        both = await asyncio.gather(
            run("task_update", task=a, depends_on=[b]),
            run("task_update", task=b, depends_on=[a]),
            return_exceptions=True,
        )
        assert sorted(isinstance(one, Conflict) for one in both) == [False, True]


async def test_an_unknown_dependency_is_named_and_nothing_is_made(run):
    with pytest.raises(NotFound, match=r"`depends_on` names T-8, T-9"):
        await run("task_create", title="a", depends_on=["T-9", "T-8"])
    assert (await run("task_list")).items == []


async def test_a_heartbeat_moves_the_end_of_the_lease(run):
    await run("task_create", title="a")
    claim = await run("task_claim", agent="dev", lease_seconds=60)
    beat = await run("task_heartbeat", task="T-1", lease=claim.lease)
    assert beat.lease_until > claim.lease_until


@pytest.mark.parametrize(
    "write",
    [
        ("task_complete", {}),
        ("task_heartbeat", {}),
        ("task_update", {"note": "late"}),
        ("task_update", {"status": "review"}),
    ],
    ids=lambda write: write[0] + "".join(write[1]),
)
async def test_a_write_after_the_lease_passed_is_refused_even_if_nobody_took_the_task(run, workspace, write):
    await run("task_create", title="a")
    claim = await run("task_claim", agent="dev")
    await let_the_lease_pass(workspace, "T-1")
    name, arguments = write
    before = (await run("task_get", task="T-1")).task
    with pytest.raises(LeaseLost, match="Your lease 1 of T-1 passed"):
        await run(name, task="T-1", lease=claim.lease, **arguments)
    assert (await run("task_get", task="T-1")).task == before


@pytest.mark.parametrize("name", ["task_complete", "task_heartbeat", "task_update"])
async def test_a_stale_holder_is_refused_after_a_takeover(run, workspace, name):
    await run("task_create", title="a")
    stale = await run("task_claim", agent="dev")
    await let_the_lease_pass(workspace, "T-1")
    taken = await run("task_claim", agent="qa")
    assert (taken.task.key, taken.lease) == ("T-1", stale.lease + 1)
    more = {"note": "late"} if name == "task_update" else {}
    with pytest.raises(LeaseLost, match="not the current lease of T-1, which is now held by qa"):
        await run(name, task="T-1", lease=stale.lease, **more)
    await run("task_complete", task="T-1", lease=taken.lease)


async def test_only_the_holder_changes_a_held_task(run):
    await run("task_create", title="a")
    lease = (await run("task_claim", agent="dev")).lease
    with pytest.raises(LeaseLost, match="held by dev"):
        await run("task_update", task="T-1", note="mine now")
    assert (await run("task_update", task="T-1", lease=lease, status="in_progress", note="half")).task.note == "half"
    released = (await run("task_update", task="T-1", lease=lease, status="pending")).task
    assert (released.status, released.ready) == ("pending", True)


async def test_wrong_moves_name_the_allowed_ones(run):
    await run("task_create", title="a")
    with pytest.raises(
        InvalidMove, match=r"T-1 is pending; it cannot become review\. Allowed now: active by task_claim; blocked or"
    ):
        await run("task_update", task="T-1", status="review")
    with pytest.raises(InvalidMove, match="pending; it cannot become completed"):
        await run("task_complete", task="T-1", lease=1)
    lease = (await run("task_claim", agent="dev")).lease
    await run("task_complete", task="T-1", lease=lease)
    with pytest.raises(InvalidMove, match="final"):
        await run("task_claim", agent="dev", task="T-1")


async def test_an_edit_on_an_old_version_is_refused(run):
    await run("task_create", title="a")
    await run("task_update", task="T-1", expected_version=1, title="b")
    with pytest.raises(VersionConflict, match="at version 2, not 1"):
        await run("task_update", task="T-1", expected_version=1, title="c")
    with pytest.raises(VersionConflict, match="not 9: it never had that version"):
        await run("task_update", task="T-1", expected_version=9, title="c")
    found = (await run("task_get", task="T-1")).task
    assert (found.title, {event.at.microsecond for event in found.history}) == ("b", {0})
    assert (await run("task_update", task="T-1", note="n")).task.history is None


async def test_an_update_without_a_change_is_refused(run):
    await run("task_create", title="a")
    with pytest.raises(Invalid, match="something to change"):
        await run("task_update", task="T-1")


async def test_many_writers_lose_no_update(run):
    await run("task_create", title="a")

    async def writer(number: int) -> int:
        done = 0
        while done < 5:
            version = (await run("task_get", task="T-1")).task.version
            try:
                await run("task_update", task="T-1", expected_version=version, note=f"{number}.{done}")
                done += 1
            except VersionConflict:
                continue
        return done

    written = await asyncio.gather(*(writer(number) for number in range(4)))
    assert (await run("task_get", task="T-1")).task.version == 1 + sum(written)


async def test_claims_at_once_give_each_task_to_one_agent(run):
    for number in range(12):
        await run("task_create", title=f"t{number}")
    claims = await asyncio.gather(*(run("task_claim", agent="dev") for _ in range(15)))
    keys = [claim.task.key for claim in claims if claim.task]
    assert len(keys) == len(set(keys)) == 12


async def test_a_dependent_added_while_its_dependency_is_finished_is_never_stuck(run):
    for _ in range(10):
        key = (await run("task_create", title="first")).task.key
        lease = (await run("task_claim", agent="dev", task=key)).lease
        _, made = await asyncio.gather(
            run("task_complete", task=key, lease=lease), run("task_create", title="second", depends_on=[key])
        )
        assert (await run("task_get", task=made.task.key)).task.ready is True


async def test_two_last_dependencies_finished_at_once_free_the_task(run):
    for _ in range(10):
        pair = [(await run("task_create", title="x")).task.key for _ in range(2)]
        waiting = (await run("task_create", title="y", depends_on=pair)).task.key
        leases = [(await run("task_claim", agent="dev", task=key)).lease for key in pair]
        await asyncio.gather(
            *(run("task_complete", task=key, lease=lease) for key, lease in zip(pair, leases, strict=True))
        )
        assert (await run("task_get", task=waiting)).task.ready is True


async def test_the_same_idempotency_key_answers_the_first_result_again(run):
    first = await run("task_create", title="once", idempotency_key="k-1")
    again = await run("task_create", title="once", idempotency_key="k-1")
    assert again == first
    with pytest.raises(Conflict, match="used for task_create with other arguments"):
        await run("task_create", title="other", idempotency_key="k-1")
    assert len((await run("task_list")).items) == 1


async def test_twenty_calls_at_once_with_one_key_do_one_thing(run):
    results = await asyncio.gather(*(run("task_create", title="once", idempotency_key="k") for _ in range(20)))
    assert {one.task.key for one in results} == {"T-1"}


async def test_a_key_is_known_to_be_that_of_whoever_sent_it(workspace):
    async def create(name):
        arguments = {"title": "once", "idempotency_key": "k"}
        return (await perform(BY_NAME["task_create"], arguments, Caller(name), workspace)).task.key

    assert [await create(name) for name in ("ann", "bob", "ann", "bob")] == ["T-1", "T-2", "T-1", "T-2"]


async def test_a_refused_call_leaves_its_idempotency_key_free(run):
    with pytest.raises(NotFound):
        await run("task_create", title="a", depends_on=["T-5"], idempotency_key="k")
    assert (await run("task_create", title="a", idempotency_key="k")).task.key == "T-1"


@pytest.mark.parametrize(
    "arguments, told",
    [
        ({}, "`title` is missing. task_create takes title, description?"),
        ({"title": "a", "colour": "red"}, "`colour` is not known. task_create takes title"),
        ({"title": 7}, "`title` must be a text"),
        ({"title": " "}, "`title` must not be blank"),
        ({"title": "x" * 301}, "`title` must have at most 300 characters"),
        ({"title": "a\x00b"}, "`title` holds a NUL"),
        ({"title": "a", "description": "\ud800"}, "`description` holds half of a surrogate pair"),
        ({"title": "a", "depends_on": ["x"]}, "`depends_on.0` must look like T-41"),
        ({"title": "a", "depends_on": "T-1"}, "`depends_on`"),
        ({"title": "a", "priority": "urgent"}, "`priority` must be 'low', 'medium', 'high' or 'critical'"),
        ({"title": "a", "description": "x" * 100_001}, "`description` must have at most 100,000 characters"),
        ({"title": "a", "story": "one"}, "`story` must look like 1.2"),
    ],
)
async def test_bad_input_names_the_field(run, arguments, told):
    with pytest.raises(Invalid) as refused:
        await run("task_create", **arguments)
    assert told in refused.value.message


@pytest.mark.parametrize("number", [2**31, 2**40, -(2**63), 10**30])
async def test_numbers_that_no_column_holds_are_refused_and_harm_nothing(run, number):
    await run("task_create", title="a")
    await run("task_claim", agent="dev")
    with pytest.raises((Invalid, LeaseLost)):
        await run("task_complete", task="T-1", lease=number)
    with pytest.raises((Invalid, LeaseLost, VersionConflict)):
        await run("task_update", task="T-1", expected_version=number, title="x", lease=1)


async def test_an_edit_of_a_finished_task_leaves_what_waited_for_it_ready(run):
    await run("task_create", title="a")
    await run("task_create", title="b", depends_on=["T-1"])
    lease = (await run("task_claim", agent="dev")).lease
    await run("task_complete", task="T-1", lease=lease)
    await run("task_update", task="T-1", note="Afterthought")
    assert (await run("task_get", task="T-2")).task.ready is True


async def test_dropping_a_dependency_while_it_is_finished_frees_nothing_else(run):
    for _ in range(10):
        one, two = [(await run("task_create", title="x")).task.key for _ in range(2)]
        waiting = (await run("task_create", title="y", depends_on=[one, two])).task.key
        lease = (await run("task_claim", agent="dev", task=one)).lease
        await asyncio.gather(
            run("task_complete", task=one, lease=lease), run("task_update", task=waiting, depends_on=[two])
        )
        found = (await run("task_get", task=waiting)).task
        assert (found.ready, found.waits_for) == (False, [two])


async def test_nobody_starts_a_task_without_holding_it(run):
    await run("task_create", title="a")
    await run("task_create", title="b", depends_on=["T-1"])
    for key in ("T-1", "T-2"):
        with pytest.raises((LeaseLost, InvalidMove)):
            await run("task_update", task=key, status="in_progress")


async def test_a_lease_that_passed_leaves_only_release_block_or_cancel_without_a_claim(run, workspace):
    await run("task_create", title="a")
    await run("task_claim", agent="dev")
    await let_the_lease_pass(workspace, "T-1")
    for change in ({"note": "late"}, {"status": "in_progress"}, {"status": "review"}):
        with pytest.raises(LeaseLost):
            await run("task_update", task="T-1", **change)
    assert (await run("task_update", task="T-1", status="pending")).task.ready is True


async def test_a_label_that_names_no_file_is_refused(run):
    await run("task_create", title="a")
    lease = (await run("task_claim", agent="dev")).lease
    for label in ("", "  ", "../../etc/passwd", "/etc/x", "./"):
        with pytest.raises(Invalid, match="`artifacts`"):
            await run("task_complete", task="T-1", lease=lease, artifacts=[label])
    await run("task_complete", task="T-1", lease=lease, artifacts=["src/a.py", "The report"])


async def test_a_circle_is_found_quickly_in_a_dense_net(run):
    layers = [[(await run("task_create", title="x")).task.key for _ in range(4)]]
    for _ in range(8):
        layers.append([(await run("task_create", title="x", depends_on=layers[-1])).task.key for _ in range(4)])
    with pytest.raises(Conflict, match="circle"):
        await asyncio.wait_for(run("task_update", task=layers[0][0], depends_on=[layers[-1][0]]), 5)


async def test_work_of_a_story_that_was_closed_is_not_claimed_after_its_lease(run, workspace):
    await run("epic_create", title="E")
    await run("story_create", epic="1", title="S")
    await run("story_update", story="1.1", expected_version=1, status="ready")
    await run("task_create", title="a", story="1.1")
    await run("task_claim", agent="dev")
    version = (await run("story_get", story="1.1")).version
    await run("story_update", story="1.1", expected_version=version, status="cancelled")
    await let_the_lease_pass(workspace, "T-1")
    assert (await run("task_claim", agent="dev")).task is None
    assert (await run("task_list", ready=True)).items == []


async def test_cancelling_the_last_open_task_takes_the_story_to_review(run):
    await run("epic_create", title="E")
    await run("story_create", epic="1", title="S")
    await run("story_update", story="1.1", expected_version=1, status="ready")
    for _ in range(2):
        await run("task_create", title="a", story="1.1")
    lease = (await run("task_claim", agent="dev")).lease
    await run("task_complete", task="T-1", lease=lease)
    await run("task_update", task="T-2", status="cancelled")
    assert (await run("story_get", story="1.1")).status == "review"
