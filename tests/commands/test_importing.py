"""`import` and `status`: what they print, what a dry run leaves, and which project they mean."""

import json
import shutil
from pathlib import Path

import pytest
from commands.command import fails, succeeds
from processes import fresh_key

from bmad_mcp import sample
from bmad_mcp.commands.sample_copy import copied


@pytest.fixture
def folder(tmp_path):
    """The sample project in a folder whose name no other test uses."""
    root = tmp_path / fresh_key("Tide Pool")
    shutil.copytree(sample.FOLDER, root)
    return root


def key_of(folder) -> str:
    return folder.name.lower().replace(" ", "-")


def test_a_dry_run_shows_the_plan_and_makes_nothing_not_even_the_project(server_env, folder):
    told = succeeds(server_env, "import", str(folder), "--dry-run")
    assert "Plan to import" in told
    assert "this was a dry run" in told
    assert "There is no project" in fails(server_env, "status", "--project", key_of(folder))


def test_the_plan_of_a_dry_run_is_what_the_import_then_does(server_env, folder):
    planned = json.loads(succeeds(server_env, "import", str(folder), "--dry-run", "--json"))
    done = json.loads(succeeds(server_env, "import", str(folder), "--json"))
    assert planned["dry_run"]
    assert not done["dry_run"]
    assert planned["counts"]["story"] == done["counts"]["story"] == {"created": 12, "updated": 0, "kept": 0}
    assert planned["changes"] == done["changes"]
    assert done["project"] == key_of(folder)


def test_a_second_import_changes_nothing_and_says_so(server_env, folder):
    succeeds(server_env, "import", str(folder))
    assert "Nothing changed." in succeeds(server_env, "import", str(folder))
    assert "Nothing to change." in succeeds(server_env, "import", str(folder), "--dry-run")


def test_progress_goes_to_stderr_and_only_the_report_to_stdout(server_env, folder):
    told = succeeds(server_env, "import", str(folder), "--json", "--project", fresh_key("json"))
    assert json.loads(told)["counts"]["epic"]["created"] == 3


def test_the_project_is_the_folder_unless_told_otherwise(server_env, folder):
    by_option, by_variable = fresh_key("by-option"), fresh_key("by-variable")
    told = succeeds(server_env, "--project", by_option, "import", str(folder))
    assert f"into project {by_option}" in told
    told = succeeds({**server_env, "BMAD_PROJECT": by_variable}, "import", str(folder), "--dry-run")
    assert f"into project {by_variable}" in told
    told = succeeds(server_env, "import", ".", "--dry-run", cwd=folder)
    assert f"into project {key_of(folder)}" in told


def test_a_path_that_is_no_folder_is_refused(server_env, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        assert str(path) in fails(server_env, "import", str(path), code=2)


def test_a_folder_without_bmad_is_refused_and_leaves_no_project(server_env, tmp_path):
    root = tmp_path / fresh_key("code")
    (root / "src").mkdir(parents=True)
    (root / "README.md").write_text("# Code\n")
    for more in ((), ("--dry-run",), ("--json",)):
        told = fails(server_env, "import", str(root), *more)
        assert f"There is no BMad project in {root}, and nothing was written. Looked for: .bmad-core, _bmad" in told
    assert "There is no project" in fails(server_env, "status", "--project", key_of(root))
    (root / "apps/shop/_bmad").mkdir(parents=True)
    assert "One is in apps/shop: import that folder." in fails(server_env, "import", str(root))
    for home, source in ((".taskmaster", "taskmaster"), ("backlog/tasks", "backlog"), (".beads", "beads")):
        (root / home).mkdir(parents=True)
        told = fails(server_env, "import", str(root), "--project", "other")
        assert f"It has a board in {home}: bmad-mcp import {root} --project other --from {source}" in told


def test_two_folders_of_one_name_do_not_become_one_project(server_env, folder, tmp_path):
    succeeds(server_env, "import", str(folder))
    other = tmp_path / "second" / folder.name
    (other / "docs/stories").mkdir(parents=True)
    (other / "docs/stories/1.1.pay.md").write_text("# Story 1.1: Pay\n\n## Status\n\nDraft\n")
    for more in ((), ("--dry-run",)):
        told = fails(server_env, "import", str(other), *more)
        assert f"holds the files of {folder}, and {other} has others. Nothing was written." in told
        assert f"--project {key_of(folder)}" in told
    assert "Pay" not in succeeds(server_env, "status", "--project", key_of(folder))
    succeeds(server_env, "import", str(other), "--project", key_of(folder))


def test_status_shows_counts_and_what_comes_next(server_env, folder):
    succeeds(server_env, "import", str(folder))
    text = succeeds(server_env, "status", "--project", key_of(folder))
    assert "stories       12   5 done" in text
    assert "tasks         81" in text
    assert "Next\n" in text
    found = json.loads(succeeds(server_env, "status", "--project", key_of(folder), "--json"))
    assert sum(found["stories"].values()) == 12
    assert found["project"]["key"] == key_of(folder)


def test_status_of_a_project_that_nobody_made_says_how_to_make_it(server_env):
    told = fails(server_env, "status", "--project", "nobody-made-this")
    assert told.strip().startswith("bmad-mcp: There is no project 'nobody-made-this'.")
    assert "`bmad-mcp import PATH --project nobody-made-this` makes it from a folder" in told
    assert "`bmad-mcp serve --project nobody-made-this` an empty one" in told


def test_an_audit_export_goes_to_stdout_or_into_a_file_of_ones_own(server_env, folder, tmp_path):
    succeeds(server_env, "import", str(folder))
    told = succeeds(server_env, "audit", "export", "-", "--project", key_of(folder), cwd=tmp_path)
    assert "project_import" in told
    succeeds(server_env, "audit", "export", "trail.jsonl", "--project", key_of(folder), cwd=tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {folder.name, "trail.jsonl"}
    assert (tmp_path / "trail.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_sample_is_copied_once_and_served_from_there(tmp_path):
    place = copied(tmp_path)
    assert place.is_relative_to(tmp_path)
    assert sorted(one.name for one in place.iterdir()) == ["docs"]
    (place / "docs/prd.md").write_text("# Mine\n")
    assert (copied(tmp_path) / "docs/prd.md").read_text() == "# Mine\n"
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "bmad-mcp import bmad_mcp/sample" not in makefile
