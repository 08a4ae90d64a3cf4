"""`doctor`: what it finds well, what it finds wrong, and that each wrong line says how to mend it."""

import asyncio
import json
import os
from collections import namedtuple

import asyncpg
import pytest
from commands.command import NO_DATABASE, bmad, succeeds
from processes import fresh_key

from bmad_mcp.commands import checks
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.data_home import find_home, make_home
from bmad_mcp.embedded.file_lock import exclusive
from bmad_mcp.settings import Settings

QUIET = {"BMAD_MEMORY_PROVIDER": "builtin"}


def report(env, *arguments) -> tuple[int, dict[str, dict]]:
    done = bmad({**QUIET, **env}, "doctor", "--json", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)}


def test_all_is_well_on_a_database_that_is_in_order(server_env):
    succeeds(server_env, "db", "upgrade")
    code, found = report(server_env)
    assert code == 0
    assert {one["level"] for one in found.values()} == {"ok"}
    assert {"Python", "Connection", "Schema", "Role", "Project", "Memory"} <= set(found)
    assert "bound by row-level security" in found["Role"]["text"]


def test_the_report_is_for_people_unless_json_is_asked_for(server_env):
    text = succeeds({**QUIET, **server_env}, "doctor")
    assert text.splitlines()[0].startswith("ok    Python")
    assert text.endswith("All is well.\n")


def test_an_unreachable_database_fails_and_says_what_to_check():
    code, found = report(NO_DATABASE)
    assert code == 1
    assert found["Connection"]["level"] == "fail"
    assert "BMAD_DATABASE_URL" in found["Connection"]["mend"]
    assert "Schema" not in found


def test_a_first_look_at_an_empty_folder_is_no_failure(data_dir):
    code, found = report({"BMAD_DATA_DIR": str(data_dir / "new")})
    assert code == 0
    shown = succeeds({**QUIET, "BMAD_DATA_DIR": str(data_dir / "new")}, "doctor")
    assert shown.endswith("It works; 1 thing is worth a look.\n")
    assert "made at the first start" in found["Data folder"]["text"]
    assert (found["Schema"]["level"], found["Schema"]["mend"]) == ("warn", "Run: bmad-mcp db upgrade")


def test_a_folder_that_cannot_be_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("")
    code, found = report({"BMAD_DATA_DIR": str(tmp_path / "file" / "inside")})
    assert code == 1
    assert (found["Data folder"]["level"], found["Connection"]["level"]) == ("fail", "fail")
    assert "--data-dir" in found["Data folder"]["mend"]


@pytest.mark.parametrize(("free", "level"), [(1 << 20, "fail"), (500 << 20, "warn"), (5 << 30, "ok")])
def test_little_room_warns_and_no_room_fails(tmp_path, monkeypatch, free, level):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage(1, 1, free))
    found = {one.name: one for one in checks.check_folders(tmp_path)}
    assert found["Disk space"].level == level


def test_a_lock_that_another_process_holds_is_told(data_dir):
    home = find_home(data_dir / "postgres")
    make_home(home)
    with exclusive(home.control_lock, seconds=5):
        found = {one.name: one for one in checks.check_embedded(Settings(data_dir=data_dir))}
    assert found["Locks"].level == "warn"
    assert str(home.control_lock) in found["Locks"].text


def test_a_server_that_nobody_uses_and_a_half_made_folder_are_told(data_dir):
    cluster = Cluster(data_dir / "postgres")
    settings = Settings(data_dir=data_dir)
    home = find_home(data_dir / "postgres")
    make_home(home)
    (home.folder / "data.tmp").mkdir()
    assert [one.text for one in checks.check_embedded(settings)][-1] == "an interrupted first start left data.tmp"
    (home.folder / "data.tmp").rmdir()
    cluster.start()
    assert [one.text for one in checks.check_embedded(settings)][-1] == "in use"
    # What a kill -9 leaves: the kernel has let go of the lock, and PostgreSQL runs on.
    os.close(cluster._users)
    cluster._users = None
    assert [one.level for one in checks.check_embedded(settings)][-1] == "warn"


async def test_a_role_that_row_level_security_does_not_bind_fails(database):
    connection = await asyncpg.connect(**database.admin)
    try:
        found = await checks._check_role(connection)
    finally:
        await connection.close()
    assert found.level == "fail"
    assert "bmad-mcp db upgrade" in found.mend


async def test_a_table_that_lost_its_policy_fails(scratch_database):
    await asyncio.to_thread(scratch_database.migrate)
    owner = await asyncpg.connect(**scratch_database.owner)
    await owner.execute("ALTER TABLE bmad_stories NO FORCE ROW LEVEL SECURITY")
    await owner.close()
    app = await asyncpg.connect(**scratch_database.app)
    try:
        found = await checks._check_role(app)
    finally:
        await app.close()
    assert (found.level, found.text) == ("fail", "row-level security is not forced on 1 table")


def test_it_looks_at_a_project_without_making_it(server_env):
    key = fresh_key("looked-at")
    code, found = report(server_env, "--project", key)
    assert code == 0
    assert "not there yet" in found["Project"]["text"]
    code, found = report(server_env, "--project", key)
    assert "not there yet" in found["Project"]["text"]
