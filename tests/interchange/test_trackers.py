"""The seam for other trackers: the page that tells how to use it shows code that works."""

import re
from pathlib import Path
from typing import Any

from stored_rows import dump

from bmad_mcp.interchange.backlog import BacklogMd
from bmad_mcp.interchange.beads import Beads
from bmad_mcp.interchange.ports import BoardReader, BoardWriter
from bmad_mcp.interchange.project_board import project_board
from bmad_mcp.interchange.taskmaster import TaskMaster

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-tracker.md"


def shown() -> dict[str, Any]:
    """What the code of the page defines."""
    names: dict[str, Any] = {"__name__": "shown_on_the_page"}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    return names


def test_every_reader_fits_the_seam(tmp_path):
    for one in (TaskMaster(tmp_path), BacklogMd(tmp_path), Beads(tmp_path), shown()["CsvBoard"](tmp_path)):
        assert isinstance(one, BoardReader)
    assert isinstance(shown()["CsvBoard"](tmp_path), BoardWriter)
    assert not isinstance(TaskMaster(tmp_path), BoardWriter)


async def test_the_example_brings_a_board_in_and_takes_it_out(workspace, tmp_path):
    opened, page = workspace.opened, shown()
    file = tmp_path / "board.csv"
    file.write_text(
        "id,title,status,parent,waits_for,text\n"
        "1,Sign up,doing,,,Accounts\n2,Form,done,1,,\n3,Mail,todo,1,2,\n4,Ship,todo,,1,At last\n"
    )
    report = await page["come"](opened, file)
    assert (report.counts["story"].created, report.counts["task"].created) == (1, 3)
    before = await dump(opened)
    assert (await page["come"](opened, file)).changes == 0
    assert await dump(opened) == before

    board = await project_board(opened)
    told = {item.title: (item.kind, item.state, item.parent, item.depends_on) for item in board.items}
    assert told == {
        "CSV": ("epic", "in_progress", None, ()),
        "Sign up": ("story", "in_progress", "E-1", ()),
        "Form": ("task", "done", "1.1", ()),
        "Mail": ("task", "open", "1.1", ("T-1",)),
        "Ship": ("task", "open", None, ("T-2",)),
    }
    await page["leave"](opened, tmp_path / "out.csv")
    again = page["CsvBoard"](tmp_path / "out.csv").read()
    assert [(one.ref, one.parent, one.depends_on) for one in again.items] == [
        (one.ref, one.parent, one.depends_on) for one in board.items
    ]
