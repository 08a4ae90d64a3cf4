"""Projects that stray as real ones do: read with a report, imported, and nothing of them lost."""

import base64

import pytest
from deviation_projects import BUILDING, DEVIATION_PROJECTS
from stored_rows import fetch

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.reader import read_project

# What each project is told; and its stories with the status that counts.
TOLD = {
    "twattier": {"status-twice"},
    "jthadison": {"status-missing", "status-unknown", "story-name"},
    "drjlabs": {"epic-missing"},
    "mscottx88": {"tracker-stamp", "status-differs"},
    "keliihall": {"tracker-stamp"},
    "sulha199": {"tracker-key", "nested-project"},
    "alpharages": {"status-differs", "tracker-only", "epic-missing"},
    "placeholder": {"placeholder", "placeholder-folder"},
    "two_generations": {"story-twice", "epic-missing"},
    "tickets": {"v7-tickets", "ticket-known", "ticket-after", "tracker-only"},
}
STATUSES = {
    "twattier": {"1.1": "done", "1.2": "done", "1.3": "done", "1.4": "done", "1.5": "done", "1.6": "review"},
    "jthadison": dict(
        zip(
            ("1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4"),
            ("done", "review", "ready", "done", "done", "draft", "draft", "draft"),
            strict=True,
        )
    ),
    "drjlabs": {"0.1": "done", "0.2": "in_progress", "1.1": "draft"},
    "mscottx88": {"1.1": "done", "1.2": "cancelled", "1.3": "cancelled", "1.4": "cancelled", "2.1": "in_progress"},
    "keliihall": {"1.1a": "done", "1.1b": "review", "1.2": "ready"},
    "sulha199": {"0.15": "cancelled", "0.16": "in_progress", "1.1": "draft", "1.2": "ready"},
    "alpharages": {"1.1": "done", "1.2": "in_progress", "1.3": "draft"},
    "placeholder": {"1.1": "review"},
    "two_generations": {"1.1": "done", "1.2": "ready", "2.1": "review"},
    "tickets": {"1.1": "draft", "7.1": "cancelled", "7.2": "review", "7.3": "review"},
}
# Copies for assistants are no files of the project.
COPIES = (".claude/", ".cursor/")


@pytest.fixture(params=DEVIATION_PROJECTS)
def named(request, tmp_path):
    folder = tmp_path / "shop"
    DEVIATION_PROJECTS[request.param](folder)
    return request.param, folder


def own_files(folder):
    paths = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: raw for path, raw in paths.items() if not path.startswith(COPIES)}


def test_every_file_is_kept_and_every_oddity_told_with_its_mend(named):
    name, folder = named
    project = read_project(folder)
    assert {one.path: one.raw for one in project.files} == own_files(folder)
    assert {one.code for one in project.deviations} == TOLD[name]
    assert all(one.path and one.message.endswith(".") and one.mend for one in project.deviations)


async def test_it_is_imported_whole_and_a_second_time_without_a_change(named, workspace):
    name, folder = named
    report = await import_folder(workspace.opened, folder)
    assert TOLD[name] <= {one.code for one in report.deviations}
    rows = await fetch(workspace.opened, "SELECT key, status::text AS status FROM bmad_stories")
    assert {row["key"]: row["status"] for row in rows} == STATUSES[name]
    kept = await fetch(workspace.opened, "SELECT path, content, encoding FROM bmad_artifacts WHERE source = 'import'")
    contents = {
        row["path"]: row["content"].encode() if row["encoding"] == "utf-8" else base64.b64decode(row["content"])
        for row in kept
    }
    assert contents == own_files(folder)
    again = await import_folder(workspace.opened, folder)
    assert (again.changes, again.conflicts) == (0, ())


def test_a_history_in_a_comment_is_kept_whole(tmp_path):
    DEVIATION_PROJECTS["mscottx88"](tmp_path)
    (tracker,) = read_project(tmp_path).trackers
    entry = next(one for one in tracker.entries if one.key == "1-2-edit-a-task")
    assert entry.comment.startswith("was backlog 04-01;")
    assert entry.comment.count("moved again") == 25
    retro = next(one for one in tracker.entries if one.key == "epic-1-retrospective")
    assert (retro.raw_status, retro.comment) == ("pending", "on Friday")


def test_names_in_other_scripts_and_letters_stay_as_they_are(tmp_path):
    DEVIATION_PROJECTS["keliihall"](tmp_path)
    project = read_project(tmp_path)
    assert [(one.key, one.slug, one.tracker_key) for one in project.stories] == [
        ("1.1a", "登录页面", "1-1a-登录页面"),
        ("1.1b", "登录接口", "1-1b-登录接口"),
        ("1.2", "文献检索", "1-2-文献检索"),
    ]


def test_a_project_within_a_project_keeps_its_stories_to_itself(tmp_path):
    DEVIATION_PROJECTS["sulha199"](tmp_path)
    project = read_project(tmp_path)
    assert {one.path: one.nested for one in project.trackers} == {
        f"{BUILDING}/sprint-status.yaml": False,
        f"{BUILDING}/tool/sprint-status.yaml": True,
    }
    assert next(one for one in project.stories if one.key == "1.1").title == "Print"


def test_all_gates_of_a_project_are_read(tmp_path):
    DEVIATION_PROJECTS["twattier"](tmp_path)
    gates = [one.gate for one in read_project(tmp_path).gates]
    assert (gates.count("PASS"), gates.count("CONCERNS")) == (5, 1)


def test_an_installation_that_has_made_nothing_yet_is_no_deviation(tmp_path):
    DEVIATION_PROJECTS["two_generations"](tmp_path / "one")
    (tmp_path / "two/_bmad").mkdir(parents=True)
    (tmp_path / "two/_bmad-output").mkdir()
    (tmp_path / "one/_bmad").rename(tmp_path / "two/_bmad/core")
    project = read_project(tmp_path / "two")
    assert (project.generations, project.deviations) == (("v6",), ())
