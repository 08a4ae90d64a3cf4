"""`export`: what it prints, what a dry run leaves, what it answers with, and what it says when it cannot."""

import json
import shutil

import pytest
from bmad_installs import add_v4_docs, add_v6_docs
from commands.command import bmad, fails, succeeds
from processes import assistant, fresh_key

STORY = "docs/stories/2.3.story.md"


@pytest.fixture
def folder(tmp_path):
    """A project of our own words in a folder whose name no other test uses."""
    return add_v4_docs(tmp_path / fresh_key("exporting"))


def bytes_of(folder) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


async def moved(server_env, project: str, *statuses: str, story: str = "2.3") -> None:
    """Move a story as an assistant does."""
    async with assistant(server_env, project) as call:
        for status in statuses:
            version = (await call("story_get", story=story))["version"]
            await call("story_update", story=story, expected_version=version, status=status)


def test_a_project_that_is_not_there_is_told_with_what_to_do(server_env, folder):
    before = bytes_of(folder)
    told = fails(server_env, "export", str(folder))
    assert told.strip().splitlines()[-1].startswith(f"bmad-mcp: There is no project '{folder.name}'")
    assert "--project" in told
    assert f"bmad-mcp import {folder}" in told
    assert bytes_of(folder) == before


def test_a_path_that_is_no_folder_is_refused(server_env, tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in fails(server_env, "export", str(tmp_path / "file"), code=2)


async def test_a_dry_run_prints_diffs_and_changes_nothing_and_the_export_then_does_just_that(server_env, folder):
    key = fresh_key("by-option")
    succeeds(server_env, "--project", key, "import", str(folder))
    await moved(server_env, key, "in_progress")
    before = bytes_of(folder)
    told = succeeds(server_env, "export", str(folder), "--dry-run", "--project", key)
    assert told.startswith(f"Plan to export project {key} into {folder}\n")
    assert f"--- a/{STORY}\n+++ b/{STORY}\n@@ " in told
    assert "\n-Status: Approved\n+Status: InProgress\n" in told
    assert told.rstrip().endswith("1 file would be written. Nothing was written: this was a dry run.")
    assert bytes_of(folder) == before
    env = {**server_env, "BMAD_PROJECT": key}
    planned = json.loads(succeeds(env, "export", ".", "--dry-run", "--json", cwd=folder))
    done = json.loads(succeeds(env, "export", str(folder), "--json"))
    assert (
        set(planned)
        == set(done)
        == {
            *(
                "project",
                "folder",
                "dry_run",
                "files",
                "refused",
                "conflicts",
                "newer",
                "gone",
                "unwritten",
                "only_here",
            ),
        }
    )
    assert (planned["dry_run"], done["dry_run"], done["project"]) == (True, False, key)
    (file,) = planned["files"]
    assert set(file) == {"path", "is_new", "reasons", "sha256", "diff"}
    assert (file["path"], file["is_new"], file["reasons"]) == (STORY, False, ["story 2.3 is in_progress"])
    assert "+Status: InProgress" in file["diff"]
    assert done["files"][0]["sha256"] == file["sha256"]
    after = bytes_of(folder)
    assert [path for path in after if after[path] != before.get(path)] == [STORY]
    assert after[STORY] == before[STORY].replace(b"Status: Approved", b"Status: InProgress")


# By the command; `test_sync.py` has the same without one.
@pytest.mark.soak
async def test_the_folder_of_another_project_is_refused_and_nothing_is_written(server_env, folder, tmp_path):
    other = add_v6_docs(tmp_path / fresh_key("other"))
    succeeds(server_env, "import", str(folder))
    succeeds(server_env, "import", str(other))
    await moved(server_env, folder.name, "in_progress")
    async with assistant(server_env, folder.name, "--toolsets", "planning") as call:
        await call("epic_create", title="An epic of the first project")
    before = bytes_of(other)
    for more in ((), ("--dry-run",), ("--mend",)):
        told = fails(server_env, "export", str(other), "--project", folder.name, *more)
        assert f"Project {folder.name} holds the files of {folder}, and {other} has others" in told
        assert f"bmad-mcp import {other} --project {folder.name}" in told
    assert bytes_of(other) == before
    # It still belongs where it was, and the other one too.
    assert "+Status: InProgress" in succeeds(server_env, "export", str(folder), "--dry-run")
    assert "The files say what the database says." in succeeds(server_env, "export", str(other), "--dry-run")
    # Taken in on purpose, it is the project's folder.
    succeeds(server_env, "import", str(other), "--project", folder.name)
    succeeds(server_env, "export", str(other), "--project", folder.name)
    assert bytes_of(other) != before


async def test_an_empty_folder_takes_what_any_project_made_again_and_again(server_env, folder, tmp_path):
    succeeds(server_env, "import", str(folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    for title in ("First note", "Second note"):
        async with assistant(server_env, folder.name, "--toolsets", "planning") as call:
            await call("artifact_record", kind="doc", path=f"docs/{title}.md", content=f"# {title}\n")
        succeeds(server_env, "export", str(empty), "--project", folder.name)
    assert {"docs/First note.md", "docs/Second note.md"} <= bytes_of(empty).keys()


async def test_a_conflict_shows_both_sides_and_a_file_that_may_not_be_written_says_why(server_env, folder):
    succeeds(server_env, "import", str(folder))
    async with assistant(server_env, folder.name) as call:
        await call("agent_activate", agent="dev")
        version = (await call("story_get", story="2.2"))["version"]
        await call(
            "story_update", story="2.2", expected_version=version, section="File List", text="- from-the-database.py"
        )
        version = (await call("story_get", story="2.3"))["version"]
        await call("story_update", story="2.3", expected_version=version, status="in_progress")
    path = folder / "docs/stories/2.2.search-products.md"
    path.write_text(path.read_text().replace("### File List\n", "### File List\n\n- from-the-file.py\n"))
    (folder / STORY).chmod(0o444)
    before = bytes_of(folder)
    done = bmad(server_env, "export", str(folder))
    assert done.returncode == 1, "a script hears of it"
    assert "from-the-database.py" in done.stdout
    assert "from-the-file.py" in done.stdout
    assert "story_update story=2.2" in " ".join(done.stdout.split())
    assert "Make it writable, then export again." in " ".join(done.stdout.split())
    assert "Nothing was written." in done.stdout
    assert bytes_of(folder) == before
    assert "Traceback" not in done.stderr
    told = json.loads(bmad(server_env, "export", str(folder), "--json").stdout)
    assert [one["path"] for one in told["refused"]] == [STORY]
    assert told["refused"][0].keys() == {"path", "message", "mend"}
    (conflict,) = told["conflicts"]
    assert conflict.keys() == {"kind", "key", "field", "file", "database", "path", "mend"}
    assert "from-the-file.py" in conflict["file"]


async def test_a_project_made_by_tools_alone_goes_into_an_empty_folder_and_comes_back_the_same(server_env, tmp_path):
    folder = tmp_path / fresh_key("made")
    folder.mkdir()
    async with assistant(server_env, folder.name, "--toolsets", "all") as call:
        await call("epic_create", title="Shop: sell things", goal="Sell.")
        await call(
            "story_create",
            epic="1",
            title="Open the shop",
            role="owner",
            want="to open",
            benefit="people come in",
            acceptance=["The door opens", "A bell rings"],
        )
        await call("story_create", epic="1", title="../../Close & lock “it”")
        await call("task_create", title="Paint the door", story="1.1", agent="dev")
        version = (await call("story_get", story="1.1"))["version"]
        await call("story_update", story="1.1", expected_version=version, status="ready")
        await call("gate_record", story="1.2", gate="CONCERNS", reason="No lock")
    told = json.loads(succeeds(server_env, "export", str(folder), "--json"))
    assert [one["path"] for one in told["files"]] == sorted(bytes_of(folder))
    assert set(bytes_of(folder)) == {
        "docs/prd/epic-1-shop-sell-things.md",
        "docs/stories/1.1.open-the-shop.md",
        "docs/stories/1.2.close-lock-it.md",
        "docs/qa/gates/1.2-close-lock-it.yml",
    }
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]
    copy = tmp_path / fresh_key("copy")
    shutil.copytree(folder, copy)
    succeeds(server_env, "import", str(copy))
    both = [await whole(server_env, name) for name in (folder.name, copy.name)]
    # A story whose file has no check box gets its task by the import; the export made none.
    assert [one.pop("tasks") for one in both[0]] == [["Paint the door"], []]
    assert [one.pop("tasks") for one in both[1]] == [
        ["Paint the door"],
        [f"Implement story 1.2: {both[1][1]['title']}"],
    ]
    assert both[0] == both[1]
    assert [one["status"] for one in both[0]] == ["ready", "draft"]
    assert json.loads(succeeds(server_env, "export", str(copy), "--json"))["files"] == []


async def whole(server_env, project: str) -> list[dict]:
    """What people work on of each story of the project."""
    async with assistant(server_env, project) as call:
        found = []
        for one in (await call("story_list"))["items"]:
            story = await call("story_get", story=one["key"])
            names = ("key", "title", "role", "want", "benefit", "acceptance", "status")
            told = {name: story.get(name) for name in names}
            gate = story.get("gate") or {}
            told["gate"] = {name: gate.get(name) for name in ("gate", "reason")}
            told["tasks"] = [task["title"] for task in story.get("tasks", [])]
            found.append(told)
        return found


async def test_mend_sets_a_tracker_that_differs_from_its_stories(server_env, tmp_path):
    folder = add_v6_docs(tmp_path / fresh_key("mend"))
    tracker = folder / "_bmad-output/implementation-artifacts/sprint-status.yaml"
    tracker.write_text(tracker.read_text().replace("2-2-search-products: in-progress", "2-2-search-products: backlog"))
    succeeds(server_env, "import", str(folder))
    told = json.loads(succeeds(server_env, "export", str(folder), "--mend", "--json"))
    assert [one["path"] for one in told["files"]] == [tracker.relative_to(folder).as_posix()]
    assert "2-2-search-products: in-progress\n" in tracker.read_text()


def test_a_database_that_is_away_is_told_and_nothing_is_written(folder):
    before = bytes_of(folder)
    told = fails({"BMAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, "export", str(folder))
    assert "bmad-mcp doctor" in told
    assert bytes_of(folder) == before
