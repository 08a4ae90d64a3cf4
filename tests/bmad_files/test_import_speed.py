"""A large project: what an import costs in memory, and that it says how far it is. Times are in `bench.importing`."""

import asyncio
import tracemalloc

import pytest
from big_project import BOXES, CHARACTERS, make_project
from stored_rows import fetch

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.reader import read_project

MIB = 1024 * 1024
STORIES = 600
# So many bytes of memory may each byte of the files take while they are imported.
GROWTH = 16


@pytest.fixture
def folder(tmp_path):
    return make_project(tmp_path / "big", STORIES)


def test_the_made_project_is_as_large_as_it_says(folder):
    project = read_project(folder)
    assert (len(project.stories), len(project.deviations)) == (STORIES, 0)
    assert {len(one.tasks) for one in project.stories} == {BOXES}
    sizes = [len(one.raw) for one in project.files if one.kind == "story"]
    assert min(sizes) >= CHARACTERS
    assert max(sizes) < CHARACTERS + 500


def test_progress_is_told_while_files_are_read(folder):
    said: list[str] = []
    read_project(folder, progress=said.append)
    assert said == ["reading _bmad-output", "512 files read", "reading docs"]


async def test_progress_is_told_while_stories_are_planned_and_rows_written(folder, workspace):
    said: list[str] = []
    await import_folder(workspace.opened, folder, progress=said.append)
    planned = said.index("512 of 600 stories planned")
    assert (
        said.index("602 files read")
        < planned
        < said.index("writing 6,033 rows")
        < said.index("4000 of 4800 tasks written")
    )
    # A line now and then, not one for each story.
    assert len(said) < 20
    said.clear()
    assert (await import_folder(workspace.opened, folder, progress=said.append)).changes == 0
    assert said[-1] == "512 of 600 stories planned"
    (row,) = await fetch(workspace.opened, "SELECT count(*) AS n FROM bmad_tasks")
    assert row["n"] == STORIES * BOXES


@pytest.mark.soak
async def test_an_import_takes_no_more_memory_than_some_times_its_files(folder, workspace, tmp_path):
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # What is imported and compiled once does not count.
    await import_folder(workspace.opened, make_project(tmp_path / "small", 20))
    for _ in range(2):
        tracemalloc.start()
        await import_folder(workspace.opened, folder)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < GROWTH * size, f"{peak / MIB:.0f} MiB for files of {size / MIB:.1f} MiB"


@pytest.mark.soak
async def test_what_was_read_is_let_go_of(folder, workspace):
    await import_folder(workspace.opened, folder)
    tracemalloc.start()
    await import_folder(workspace.opened, folder)
    await asyncio.sleep(0)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < MIB
