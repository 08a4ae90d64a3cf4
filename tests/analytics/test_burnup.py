"""The burn-up of epics: what there was and what was done at the end of each day, by hand."""

from datetime import UTC, datetime, timedelta

from stored_rows import change


async def test_scope_and_done_grow_on_their_days(workspace, run):
    await run("epic_create", title="First")
    await run("epic_create", title="Second")
    for epic in ("1", "1", "1", "2"):
        await run("story_create", epic=epic, title="Story")
    today = datetime.now(UTC)
    for story, made, done, status in (
        ("1.1", 10, 9, "done"),
        ("1.2", 2, 1, "done"),
        ("1.3", 1, None, "cancelled"),
        ("2.1", 0, None, "draft"),
    ):
        await change(
            workspace.opened,
            "UPDATE bmad_stories SET status = $2::text::bmad_story_status, created_at = $3, completed_at = $4"
            " WHERE project_id = bmad_project() AND key = $1",
            story,
            status,
            today - timedelta(days=made),
            None if done is None else today - timedelta(days=done),
        )
    found = await run("epic_burnup", days=4)
    assert found.days == [today.date() - timedelta(days=back) for back in (3, 2, 1, 0)]
    lines = {line.epic: (line.scope_counts, line.done_counts) for line in found.items}
    assert lines == {
        None: ([1, 2, 2, 3], [1, 1, 2, 2]),
        "1": ([1, 2, 2, 2], [1, 1, 2, 2]),
        "2": ([0, 0, 0, 1], [0, 0, 0, 0]),
    }


async def test_a_story_that_came_as_done_was_done_when_it_came(workspace, run):
    await run("epic_create", title="First")
    await run("story_create", epic="1", title="Story")
    await change(
        workspace.opened,
        "UPDATE bmad_stories SET status = 'done', completed_at = NULL WHERE project_id = bmad_project()",
    )
    found = await run("epic_burnup", days=2)
    assert [(line.epic, line.scope_counts, line.done_counts) for line in found.items] == [
        (None, [0, 1], [0, 1]),
        ("1", [0, 1], [0, 1]),
    ]


async def test_a_project_without_epics_has_an_empty_line(run):
    found = await run("epic_burnup", days=2)
    assert [(line.epic, line.scope_counts) for line in found.items] == [(None, [0, 0])]
