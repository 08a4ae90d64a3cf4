"""`db`: the upgrade with its role, addresses that work, and backups that come back."""

import asyncio
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from commands.command import CLEAN, bmad, fails, succeeds
from data_dirs import new_data_dir
from database_facts import FACTS, facts, hashes
from processes import COMMAND, fresh_key

from bench.wire import Child
from bmad_mcp import sample
from bmad_mcp.commands import backup
from bmad_mcp.commands.app_role import ensure_app_role
from bmad_mcp.embedded.binaries import Place, find_binaries
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, APP_ROLE, OWNER_ROLE
from bmad_mcp.embedded.roles import prepare
from bmad_mcp.errors import Conflict, Forbidden, Unavailable
from bmad_mcp.migrations_folder import newest_revision
from bmad_mcp.schema_version import note_of

SYSTEM_15 = Path("/usr/lib/postgresql/15/bin")


def sql(connect, statement: str, *values):
    """The first value of a statement on a connection of its own."""

    async def run():
        connection = await asyncpg.connect(**connect)
        try:
            return await connection.fetchval(statement, *values)
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def server():
    """An administrator's fresh PostgreSQL: there is no app role."""
    with new_data_dir() as folder, Cluster(folder / "postgres") as endpoints:
        admin = endpoints.connect_args(ADMIN_ROLE)
        sql(admin, f"DROP OWNED BY {APP_ROLE}")
        yield endpoints


@pytest.fixture
def bare(server):
    """An empty database on it; the roles that a test makes are gone afterwards."""
    admin = server.connect_args(ADMIN_ROLE)
    sql(admin, f"DROP ROLE IF EXISTS {APP_ROLE}")
    name = fresh_key("shop").replace("-", "_")
    sql(admin, f"CREATE DATABASE {name}")
    yield replace(server, database=name)
    sql(admin, f"DROP DATABASE {name} WITH (FORCE)")
    for role in ("keeper", "plain", "pooled", "loose", "guest", "holder", "bmad_backup"):
        sql(admin, f"DROP ROLE IF EXISTS {role}")


def url_of(endpoints, role: str | None = None) -> str:
    url = endpoints.libpq_url(ADMIN_ROLE)
    return f"{url}&role={role}" if role else url


def test_an_upgrade_makes_the_app_role_and_the_server_then_works_as_it(bare):
    env = {"BMAD_DATABASE_URL": url_of(bare)}
    refused = fails(env, "status")
    assert "bmad-mcp db upgrade" in refused
    told = succeeds(env, "db", "upgrade")
    assert "Made the role bmad_app" in told
    assert f"The schema is at revision {newest_revision()} (it was empty)." in told
    again = succeeds(env, "db", "upgrade")
    assert "The role bmad_app is there" in again
    assert f"The schema is at revision {newest_revision()}." in again
    admin = bare.connect_args(ADMIN_ROLE)
    assert sql(admin, "SELECT NOT (rolcanlogin OR rolsuper OR rolbypassrls) FROM pg_roles WHERE rolname = $1", APP_ROLE)
    assert succeeds(env, "import", str(sample.FOLDER), "--project", "shop")
    code = bmad({**env, "BMAD_MEMORY_PROVIDER": "builtin"}, "doctor", "--json")
    role = next(one for one in json.loads(code.stdout) if one["name"] == "Role")
    assert role["text"] == "bmad_app, bound by row-level security"


def test_an_owner_who_may_create_roles_makes_it_too(bare):
    admin = bare.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE ROLE keeper CREATEROLE NOLOGIN")
    sql(admin, "GRANT CREATE, USAGE ON SCHEMA public TO keeper")
    env = {"BMAD_DATABASE_URL": url_of(bare, "keeper")}
    assert "Made the role bmad_app, let keeper become bmad_app." in succeeds(env, "db", "upgrade")
    assert "stories       12" in _import_and_status(env)
    assert sql(admin, "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'bmad_tasks'") == "keeper"


def test_an_owner_who_may_not_create_roles_is_bound_himself(bare):
    admin = bare.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE ROLE plain NOLOGIN")
    sql(admin, "GRANT CREATE, USAGE ON SCHEMA public TO plain")
    env = {"BMAD_DATABASE_URL": url_of(bare, "plain")}
    assert "the server works as plain; row-level security binds it" in succeeds(env, "db", "upgrade")
    assert "stories       12" in _import_and_status(env)


def _import_and_status(env) -> str:
    succeeds(env, "import", str(sample.FOLDER), "--project", "shop")
    return succeeds(env, "status", "--project", "shop")


def test_what_would_not_bind_the_server_is_refused(bare):
    admin = bare.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE ROLE loose BYPASSRLS NOLOGIN")

    async def ensure(role):
        connection = await asyncpg.connect(**admin, server_settings={"role": role})
        try:
            return await ensure_app_role(connection)
        finally:
            await connection.close()

    with pytest.raises(Forbidden, match="CREATE ROLE bmad_app NOLOGIN"):
        asyncio.run(ensure("loose"))
    sql(admin, "CREATE ROLE bmad_app BYPASSRLS NOLOGIN")
    with pytest.raises(Conflict, match="NOBYPASSRLS"):
        asyncio.run(ensure(ADMIN_ROLE))
    sql(admin, "ALTER ROLE bmad_app NOBYPASSRLS")
    with pytest.raises(Forbidden, match="GRANT bmad_app TO"):
        asyncio.run(ensure("loose"))


def test_the_role_of_the_pooled_address_gets_its_rights(bare):
    admin = bare.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE ROLE pooled NOLOGIN")
    env = {"BMAD_DATABASE_URL": url_of(bare, "pooled"), "BMAD_DATABASE_DIRECT_URL": url_of(bare)}
    assert "let pooled become bmad_app" in succeeds(env, "db", "upgrade")
    assert sql(admin, "SELECT pg_has_role('pooled', 'bmad_app', 'USAGE')")
    # Here a superuser logged in and became it, which a session of a pooler need not have done.
    assert "which row-level security does not bind" in fails(env, "status")


def test_an_upgrade_that_may_not_make_tables_says_so_and_leaves_nothing(bare):
    admin = bare.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE ROLE guest NOLOGIN")
    told = fails({"BMAD_DATABASE_URL": url_of(bare, "guest")}, "db", "upgrade")
    assert "nothing was changed" in told
    assert "permission denied" in told


def test_a_schema_of_the_next_release_is_worked_on_and_one_of_a_later_release_is_not(bare):
    env = {"BMAD_DATABASE_URL": url_of(bare)}
    succeeds(env, "db", "upgrade")
    admin = bare.connect_args(ADMIN_ROLE)
    sql(admin, "UPDATE bmad_alembic_version SET version_num = '9999'")
    assert "and serves this version too" in succeeds(env, "db", "upgrade")
    assert "stories       12" in _import_and_status(env)
    sql(admin, f"COMMENT ON TABLE bmad_alembic_version IS '{note_of('9998')}'")
    for arguments in (("db", "upgrade"), ("status",)):
        told = fails(env, *arguments)
        assert "revision 9999" in told
        assert "Upgrade bmad-mcp" in told


@pytest.fixture(scope="module")
def server_15():
    """The oldest PostgreSQL that serves; its programs are not those that write and read backups."""
    if not SYSTEM_15.is_dir():
        pytest.skip("needs PostgreSQL 15 of the system")
    binaries = find_binaries(places=[Place(SYSTEM_15, "system")])
    with new_data_dir() as folder, Cluster(folder / "postgres", find=lambda **_: binaries) as endpoints:
        yield endpoints


def test_postgresql_15_serves_as_well(server_15):
    admin = server_15.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE ROLE keeper CREATEROLE NOLOGIN")
    sql(admin, "GRANT CREATE, USAGE ON SCHEMA public TO keeper")
    # Before version 16 whoever may create roles may also grant any role but a superuser's.
    told = succeeds({"BMAD_DATABASE_URL": url_of(server_15, "keeper")}, "db", "upgrade")
    assert "Let keeper become bmad_app." in told
    assert "stories       12" in _import_and_status({"BMAD_DATABASE_URL": url_of(server_15, "keeper")})
    assert "stories       12" in _import_and_status({"BMAD_DATABASE_URL": url_of(server_15)})


def test_options_that_libpq_knows_may_stand_in_the_address(bare):
    env = {"BMAD_DATABASE_URL": f"{url_of(bare)}&sslmode=disable"}
    succeeds(env, "db", "upgrade")
    assert "stories       12" in _import_and_status(env)


def test_an_address_that_is_held_answers_until_ctrl_c(data_dir):
    process = subprocess.Popen(
        [*COMMAND, "db", "url", "--hold", "--data-dir", str(data_dir)], env=CLEAN, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = process.stdout.readline().strip()
        command = [find_binaries().bin_dir / "psql", url, "--tuples-only", "-c", "SELECT 1"]
        assert subprocess.run(command, capture_output=True, text=True, env=CLEAN).stdout.strip() == "1"
        process.send_signal(2)
        assert process.wait(15) == 0
        assert subprocess.run(command, capture_output=True, env=CLEAN).returncode != 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def embedded():
    """An embedded database with two projects; each test leaves it as it found it."""
    with new_data_dir() as folder, Cluster(folder / "postgres") as endpoints:
        env = {"BMAD_DATA_DIR": str(folder)}
        for key in ("one", "two"):
            succeeds(env, "import", str(sample.FOLDER), "--project", key)
        yield env, endpoints


@pytest.mark.parametrize("owner", [False, True])
def test_the_address_works_with_psql_and_shows_the_project(embedded, owner):
    env, _ = embedded
    psql = find_binaries().bin_dir / "psql"
    query = ["--no-align", "--tuples-only", "-c", "SELECT current_user, count(*) FROM bmad_stories"]
    for project, count in (("one", 12), ("nobody-made-this", 0)):
        url = succeeds(env, "db", "url", "--project", project, *(["--owner"] if owner else [])).strip()
        done = subprocess.run([psql, url, *query], capture_output=True, text=True, env=CLEAN)
        assert done.stdout.strip() == f"{OWNER_ROLE if owner else APP_ROLE}|{count}", done.stderr


def test_an_address_without_a_project_says_so_and_which_there_are(embedded):
    env, _ = embedded
    done = bmad(env, "db", "url", "--project", "nobody-made-this")
    assert "There is no project 'nobody-made-this'" in done.stderr
    assert "There are: two, one. Choose one with --project." in done.stderr
    assert "There is no project" not in bmad(env, "db", "url", "--project", "one").stderr


def test_only_who_starts_postgresql_says_so(embedded, data_dir):
    env, _ = embedded
    assert "starting PostgreSQL" not in bmad(env, "db", "url", "--project", "one").stderr
    assert "starting PostgreSQL …" in bmad({"BMAD_DATA_DIR": str(data_dir)}, "db", "url").stderr


def told_of(endpoints, tell) -> dict[str, str]:
    """What `tell` says of the database, on a connection of its own."""

    async def read():
        connection = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
        try:
            return await tell(connection)
        finally:
            await connection.close()

    return asyncio.run(read())


def rows_of(endpoints) -> dict[str, str]:
    """Every row of ours, as one hash for each table."""
    return told_of(endpoints, hashes)


def seen(endpoints) -> tuple[dict[str, str], dict[str, str]]:
    return rows_of(endpoints), told_of(endpoints, facts)


def test_a_backup_comes_back_as_it_was(embedded, tmp_path):
    env, endpoints = embedded
    file = tmp_path / "all.dump"
    before = seen(endpoints)
    assert succeeds(env, "db", "backup", str(file)).startswith(f"Saved 2 projects in {file}")
    assert file.stat().st_mode & 0o777 == 0o600
    succeeds(env, "import", str(sample.FOLDER), "--project", "three")
    sql(endpoints.connect_args(ADMIN_ROLE), "UPDATE bmad_stories SET title = 'lost'")
    assert seen(endpoints)[0] != before[0]
    told = succeeds(env, "db", "restore", str(file), "--yes")
    assert "Restored 2 projects" in told
    assert seen(endpoints) == before
    assert "There is no project 'three'" in fails(env, "status", "--project", "three")
    assert "stories       12" in succeeds(env, "status", "--project", "two")
    databases = sql(
        endpoints.connect_args(ADMIN_ROLE), "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ 'bmad'"
    )
    assert databases == "bmad"


def test_a_backup_comes_back_in_a_fresh_cluster_with_its_rows_schema_rights_and_roles(embedded, tmp_path, data_dir):
    env, endpoints = embedded
    file = tmp_path / "all.dump"
    succeeds(env, "db", "backup", str(file))
    assert "Restored 2 projects" in succeeds({"BMAD_DATA_DIR": str(data_dir)}, "db", "restore", str(file), "--yes")
    with Cluster(data_dir / "postgres") as fresh:
        assert rows_of(fresh) == rows_of(endpoints)
        there, here = told_of(fresh, facts), told_of(endpoints, facts)
        for name in FACTS:
            assert there[name] == here[name], name
            assert here[name], name


def test_a_restore_wants_to_be_confirmed_and_nobody_else_there(embedded, tmp_path):
    env, endpoints = embedded
    file = tmp_path / "all.dump"
    succeeds(env, "db", "backup", str(file))
    before = seen(endpoints)
    assert "--yes" in fails(env, "db", "restore", str(file), code=2)
    child = Child([*COMMAND, "serve", "--project", "one"], {**CLEAN, **env})
    child.hello()
    child.call("project_status")
    told = fails(env, "db", "restore", str(file), "--yes")
    assert "Close your assistants" in told
    child.close()
    assert seen(endpoints) == before


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_what_is_no_whole_backup_changes_nothing(embedded, tmp_path, damage):
    env, endpoints = embedded
    file = tmp_path / "all.dump"
    succeeds(env, "db", "backup", str(file))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20_000])
    elif damage == "text":
        file.write_text("not a dump")
    else:
        admin = endpoints.connect_args(ADMIN_ROLE) | {"database": "postgres"}
        sql(admin, "CREATE TABLE other (id int)")
        file.unlink()
        pg_dump = find_binaries().bin_dir / "pg_dump"
        address = replace(endpoints, database="postgres").libpq_url(ADMIN_ROLE)
        subprocess.run([pg_dump, "--format=custom", f"--file={file}", address], check=True, env=CLEAN)
    before = seen(endpoints)
    assert fails(env, "db", "restore", str(file), "--yes")
    assert seen(endpoints) == before
    databases = sql(
        endpoints.connect_args(ADMIN_ROLE), "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ 'bmad'"
    )
    assert databases == "bmad"


def test_a_backup_never_overwrites_and_leaves_no_half_file(embedded, tmp_path):
    env, _ = embedded
    file = tmp_path / "all.dump"
    file.write_text("precious")
    assert "exists already" in fails(env, "db", "backup", str(file))
    assert file.read_text() == "precious"
    assert "no folder" in fails(env, "db", "backup", str(tmp_path / "nowhere" / "x.dump"))
    assert os.listdir(tmp_path) == ["all.dump"]


def test_a_backup_of_the_embedded_database_fills_an_empty_external_one_beside_other_tables(embedded, tmp_path):
    env, endpoints = embedded
    file = tmp_path / "all.dump"
    succeeds(env, "db", "backup", str(file))
    other = replace(endpoints, database="elsewhere")
    prepare(other)
    admin = other.connect_args(ADMIN_ROLE)
    sql(admin, "CREATE TABLE custom_things (id int)")
    sql(admin, "INSERT INTO custom_things VALUES (7)")
    external = {"BMAD_DATABASE_URL": other.libpq_url(ADMIN_ROLE)}
    assert "Restored 2 projects" in succeeds(external, "db", "restore", str(file), "--yes")
    assert rows_of(other) == rows_of(endpoints)
    assert sql(admin, "SELECT id FROM custom_things") == 7
    assert "stories       12" in succeeds(external, "status", "--project", "one")
    assert "holds projects already" in fails(external, "db", "restore", str(file), "--yes")
    back = tmp_path / "back.dump"
    succeeds(external, "db", "backup", str(back))
    listed = subprocess.run(
        [find_binaries().bin_dir / "pg_restore", "--list", back], capture_output=True, text=True, check=True
    ).stdout
    assert "custom_things" not in listed
    assert "Restored 2 projects" in succeeds(env, "db", "restore", str(back), "--yes")


def test_a_backup_comes_back_in_a_server_older_than_the_programs(embedded, server_15, tmp_path):
    env, endpoints = embedded
    file = tmp_path / "all.dump"
    succeeds(env, "db", "backup", str(file))
    old = replace(server_15, database="again")
    prepare(old)
    external = {"BMAD_DATABASE_URL": old.libpq_url(ADMIN_ROLE)}
    assert "Restored 2 projects" in succeeds(external, "db", "restore", str(file), "--yes")
    assert rows_of(old) == rows_of(endpoints)
    there, here = told_of(old, facts), told_of(endpoints, facts)
    # All is owned by who restores; PostgreSQL 18 has a function for keys, which 15 puts together.
    assert {name for name in FACTS if there[name] != here[name]} == {"functions", "owners", "rights", "sequences"}
    assert sql(old.connect_args(ADMIN_ROLE), "SELECT substr(bmad_uuid7()::text, 15, 1)") == "7"
    assert "stories       12" in succeeds(external, "status", "--project", "two")


@pytest.mark.soak
@pytest.mark.parametrize(("damage", "program"), [("cut", "pg_restore"), ("other table", "psql")])
def test_a_restore_into_an_older_server_that_fails_leaves_nothing(embedded, server_15, tmp_path, damage, program):
    env, _ = embedded
    file = tmp_path / "all.dump"
    succeeds(env, "db", "backup", str(file))
    old = replace(server_15, database=fresh_key("cut").replace("-", "_"))
    prepare(old)
    admin = old.connect_args(ADMIN_ROLE)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20_000])
    else:
        sql(admin, "CREATE TABLE bmad_tasks (id int)")
    tables = "SELECT count(*) FROM pg_class WHERE relname ~ '^(bmad|mcp)_'"
    before = sql(admin, tables)
    told = fails({"BMAD_DATABASE_URL": old.libpq_url(ADMIN_ROLE)}, "db", "restore", str(file), "--yes")
    assert f"{program} did not succeed, and nothing was changed" in told
    assert sql(admin, tables) == before


def test_a_database_without_projects_writes_no_backup(data_dir, tmp_path):
    told = fails({"BMAD_DATA_DIR": str(data_dir)}, "db", "backup", str(tmp_path / "bmad.dump"))
    assert "There is nothing to save" in told
    assert not list(tmp_path.iterdir())


def test_a_role_that_sees_one_project_only_writes_no_empty_backup(bare, tmp_path):
    sql(bare.connect_args(ADMIN_ROLE), "CREATE ROLE plain NOLOGIN")
    sql(bare.connect_args(ADMIN_ROLE), "GRANT CREATE, USAGE ON SCHEMA public TO plain")
    env = {"BMAD_DATABASE_URL": url_of(bare, "plain")}
    succeeds(env, "db", "upgrade")
    assert "BYPASSRLS" in fails(env, "db", "backup", str(tmp_path / "x.dump"))
    assert os.listdir(tmp_path) == []


def as_role(endpoints, role: str) -> str:
    """An address that pg_dump understands too, of who becomes the role."""
    return f"{endpoints.libpq_url(ADMIN_ROLE)}&options=-c%20role%3D{role}"


def test_the_role_for_backups_that_the_docs_make_saves_all_projects_and_the_owner_restores_them(bare, tmp_path):
    page = (Path(__file__).parents[2] / "docs/how-to/use-your-own-postgresql.md").read_text()
    made = re.search(r"```sql\n(CREATE ROLE bmad_backup [^;]*;)\n(GRANT [^;]*;)\n```", page)
    assert made
    admin = bare.connect_args(ADMIN_ROLE)
    for statement in (
        "CREATE ROLE holder LOGIN CREATEROLE",
        "GRANT CREATE, USAGE ON SCHEMA public TO holder",
        *made.groups(),
    ):
        sql(admin, statement)
    owner = {"BMAD_DATABASE_URL": as_role(bare, "holder")}
    succeeds(owner, "db", "upgrade")
    for key in ("one", "two"):
        succeeds(owner, "import", str(sample.FOLDER), "--project", key)
    assert "Use a role with BYPASSRLS" in fails(owner, "db", "backup", str(tmp_path / "not.dump"))
    saved = tmp_path / "before.dump"
    succeeds({"BMAD_DATABASE_URL": as_role(bare, "bmad_backup")}, "db", "backup", str(saved))
    sql(admin, "CREATE DATABASE again OWNER holder")
    again = {"BMAD_DATABASE_URL": as_role(replace(bare, database="again"), "holder")}
    assert "Restored 2 projects" in succeeds(again, "db", "restore", str(saved), "--yes")
    assert "stories       12" in succeeds(again, "status", "--project", "two")
    sql(admin, "DROP DATABASE again WITH (FORCE)")


def test_a_password_goes_into_the_environment_and_not_onto_the_command_line():
    place = backup.Place.of_url("postgresql://user:s%40cret@db.example:5433/shop?sslmode=require")
    assert place.url == "postgresql://user@db.example:5433/shop?sslmode=require"
    assert place.env["PGPASSWORD"] == "s@cret"
    assert "PGPASSWORD" not in backup.Place.of_url("postgresql://user@db/shop").env


async def test_without_the_client_programs_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(backup, "find_binaries", lambda: replace(find_binaries(), bin_dir=tmp_path))
    with pytest.raises(Unavailable, match="has no pg_restore"):
        await backup._list(tmp_path / "x.dump")
