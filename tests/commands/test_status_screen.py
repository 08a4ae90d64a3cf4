"""What `status` draws: lines that fit, plain where they are piped, and nothing that a stored name could smuggle in."""

import io
import json

import pytest
from command import succeeds
from rich.console import Console

from bmad_mcp.analytics.schemas import Drift, DriftItem
from bmad_mcp.commands.status_screen import ASCII, BLOCKS, MOST_LINES, draw, elapsed, spark

pytest_plugins = ("stories.fixtures",)


async def drawn(run, *, terminal: bool = False, change=None) -> str:
    status, overview = await run("project_status"), await run("analytics_overview")
    if change:
        status, overview = change(status, overview)
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=terminal, width=80, highlight=False, color_system="256" if terminal else None
    )
    draw(console, status, overview)
    return screen.getvalue()


@pytest.fixture
async def worked(run, sql):
    """Tasks done in 2 and 4 hours, one three days old, a workflow, a look-up and a gate."""
    for number in range(1, 4):
        await run("task_create", title="Do", agent="dev")
        lease = (await run("task_claim", agent="dev")).task.lease
        if number < 3:
            await run("task_complete", task=f"T-{number}", lease=lease, quality=80 + number)
            await sql(
                "UPDATE bmad_tasks SET started_at = completed_at - $1::int * interval '2 h' WHERE number = $1",
                number,
            )
    await sql("UPDATE bmad_tasks SET started_at = now() - interval '3 d' WHERE number = 3")
    await run("workflow_start", type="greenfield-fullstack")
    await run("memory_context", focus="anything")


async def test_a_new_project_draws_no_numbers(run):
    text = await drawn(run)
    assert "Last 30 days" not in text
    assert "Ageing" not in text
    assert "Next\n" in text


async def test_the_numbers_are_drawn(run, worked):
    text = await drawn(run)
    assert "2 tasks completed, 0.07 a day; 0 in the 30 days before" in text
    assert "p50 3h        p85 3h 42m    p95 3h 54m    of 2" in text  # 2 h and 4 h: 3; 2 + 0.85 * 2; 2 + 0.95 * 2
    assert "1 active; 0 ready to claim" in text
    assert "mean 81.5 of 100" in text
    assert "50% of 2 look-ups found something" in text
    assert "Ageing work: 1 older than 3h 42m (p85 of cycle times)" in text
    assert "  T-3           3d  active      dev" in text
    assert "  100%  1 waiting  greenfield-fullstack 1: project-brief.md (analyst)\n" in text


async def test_piped_it_is_plain_ascii_and_fits(run, worked):
    text = await drawn(run)
    assert "\x1b" not in text
    assert text.isascii()
    numbers = text[text.index("Last 30 days") :].splitlines()
    assert max(map(len, numbers)) <= 80
    assert len(text.splitlines()) <= MOST_LINES
    assert f"{'_' * 29}#  by day, at most 2" in text


async def test_a_terminal_gets_colours_and_blocks(run, worked):
    text = await drawn(run, terminal=True)
    assert "\x1b[1m" in text
    assert f"{BLOCKS[0] * 29}{BLOCKS[-1]}" in text


async def test_stored_names_bring_no_control_characters_and_no_markup(run, worked):
    def hostile(status, overview):
        name = status.project.model_copy(update={"name": "shop\x1b]0;owned\x07[red]x[/red]\n\n"})
        overview.tasks.ageing.oldest[0].agent = "dev\x1b[31m" * 40
        overview.workflows.bottlenecks[0].step = "a\rb" * 90
        items = [
            DriftItem(between="conflict", first=f"1.{at}", count=9, database="x\x1b", mend="bmad-mcp export \x9b" * 9)
            for at in range(5)
        ]
        drift = Drift(count=45, items=items)
        return status.model_copy(update={"project": name, "drift": drift, "next": ["n"] * 5}), overview

    text = await drawn(run, change=hostile)
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert "[red]x[/red]" in text
    assert len(text.splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([0, 0], "__"), ([0, 1, 7], "_.#"), ([1, 1000], ".#"), ([5], "#"), ([1, 2, 3, 4, 5, 6, 7], ".:-=+*#")],
)
def test_a_bar_is_highest_for_the_most_and_lowest_only_for_none(values, expected):
    assert spark(values, ASCII) == expected


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (3660, "1h 1m"), (86_399, "23h 59m"),
     (86_400, "1d"), (93_600, "1d 2h")],
)  # fmt: skip
def test_times_are_told_in_two_units(seconds, told):
    assert elapsed(seconds) == told


def test_the_command_prints_the_numbers_as_json(server_env, tmp_path):
    folder = tmp_path / "shop"
    (folder / "docs" / "prd").mkdir(parents=True)
    (folder / "docs" / "prd.md").write_text("# Shop\n\n## Epic 1 Sell\n\nGoal.\n\n### Story 1.1 Show\n\nAs a guest\n")
    succeeds(server_env, "import", str(folder))
    told = json.loads(succeeds(server_env, "status", "--project", "shop", "--json"))
    assert told["analytics"]["tasks"]["completed_count"] == 0
    assert told["analytics"]["window"]["days"] == 30
