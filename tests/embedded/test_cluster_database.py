"""What a first start makes: a database, two roles without powers, and no way in but the private socket."""

import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bmad_mcp.embedded import Cluster, Endpoints
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.embedded.roles import Answer, ask
from bmad_mcp.embedded.session import ServerRefused, Session

IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def cluster(shared_root: Path) -> Iterator[Cluster]:
    cluster = Cluster(shared_root)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def endpoints(cluster: Cluster) -> Endpoints:
    return cluster.ensure_running()


def as_admin(endpoints: Endpoints) -> Session:
    return Session(endpoints.socket_file, ADMIN_ROLE, "postgres")


async def test_app_and_owner_connect_with_asyncpg(endpoints: Endpoints) -> None:
    for connect, role in ((endpoints.app_connect(), "bmad_app"), (endpoints.owner_connect(), "bmad_owner")):
        connection = await asyncpg.connect(**connect)
        row = await connection.fetchrow("SELECT current_user, current_database(), uuidv7() IS NOT NULL")
        assert tuple(row) == (role, "bmad", True)
        await connection.close()


async def test_connecting_ignores_environment_variables_meant_for_another_server(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"HOST": "db.invalid", "PORT": "1", "USER": "nobody-here", "DATABASE": "x", "SSLMODE": "verify-full"}
    for name, value in (elsewhere | {"SSLROOTCERT": "/nowhere", "TARGETSESSIONATTRS": "read-only"}).items():
        monkeypatch.setenv(f"PG{name}", value)
    connection = await asyncpg.connect(**endpoints.app_connect())
    assert await connection.fetchval("SELECT current_user") == "bmad_app"
    await connection.close()


async def test_the_app_role_has_no_powers_and_owns_nothing(endpoints: Endpoints) -> None:
    connection = await asyncpg.connect(**endpoints.app_connect())
    powers = await connection.fetch(
        "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
        " FROM pg_roles WHERE rolname IN ('bmad_app', 'bmad_owner') ORDER BY 1"
    )
    assert [tuple(row) for row in powers] == [
        ("bmad_app", True, False, False, False, False, False),
        ("bmad_owner", True, False, False, False, False, False),
    ]
    owners = await connection.fetchrow(
        "SELECT (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'bmad'),"
        " (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'),"
        " (SELECT count(*) FROM pg_auth_members WHERE member = 'bmad_app'::regrole)"
    )
    assert tuple(owners) == ("bmad_owner", "bmad_owner", 0)
    for refused in ("CREATE TABLE t ()", "CREATE SCHEMA s", "CREATE TEMP TABLE t ()", "SET ROLE bmad_owner"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(refused)
    await connection.close()


async def test_the_owner_migrates_and_the_app_sees_only_what_it_was_granted(endpoints: Endpoints) -> None:
    owner = await asyncpg.connect(**endpoints.owner_connect())
    await owner.execute("CREATE EXTENSION pg_trgm; CREATE TABLE notes AS SELECT 'kept' AS word")
    app = await asyncpg.connect(**endpoints.app_connect())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.fetch("SELECT * FROM notes")
    await owner.execute("GRANT SELECT ON notes TO bmad_app")
    assert await app.fetchval("SELECT word FROM notes") == "kept"
    await owner.execute("DROP TABLE notes; DROP EXTENSION pg_trgm")
    await app.close()
    await owner.close()


def test_the_server_listens_on_no_network_address(endpoints: Endpoints, cluster: Cluster) -> None:
    with as_admin(endpoints) as session:
        assert session.run("SHOW listen_addresses") == [("",)]
        rules = session.run("SELECT type, auth_method, user_name::text FROM pg_hba_file_rules ORDER BY rule_number")
    assert rules == [
        ("local", "peer", "{bmad_admin,bmad_owner,bmad_app}"),
        ("local", "reject", "{all}"),
        ("host", "reject", "{all}"),
    ]
    for folder in (cluster.data_folder, endpoints.socket_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(endpoints.socket_file.stat().st_mode) == 0o700


@pytest.mark.skipif(not IS_ROOT, reason="only root can act as another user")
@pytest.mark.parametrize("system_user", ["nobody", "postgres"])
def test_another_system_user_is_refused_even_where_the_socket_lets_it_pass(
    endpoints: Endpoints, run_as: Callable[..., str], system_user: str
) -> None:
    uid = pwd.getpwnam(system_user).pw_uid
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    log_in = """
import sys
from pathlib import Path
from bmad_mcp.embedded.session import ServerRefused, Session
for role in ("bmad_admin", "bmad_owner", "bmad_app"):
    try:
        Session(Path(sys.argv[1]), role, "bmad")
    except ServerRefused as refused:
        print(refused.sqlstate)
"""
    if endpoints.socket_dir.stat().st_uid != uid:
        assert "PermissionError" in run_as(uid, knock, str(endpoints.socket_file))
    endpoints.socket_dir.chmod(0o755)
    endpoints.socket_file.chmod(0o777)
    try:
        assert run_as(uid, log_in, str(endpoints.socket_file)).split() == ["28000"] * 3
    finally:
        endpoints.socket_dir.chmod(0o700)
        endpoints.socket_file.chmod(0o700)


def test_the_settings_are_durable_and_modest(endpoints: Endpoints) -> None:
    with as_admin(endpoints) as session:
        settings = {row[0]: row[1] for row in session.run("SELECT name, setting FROM pg_settings")}
        wrong = session.run("SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL")
        locale = session.run(
            "SELECT pg_encoding_to_char(encoding), datlocprovider, datlocale FROM pg_database WHERE datname = 'bmad'"
        )
    assert wrong == []
    assert locale == [("UTF8", "b", "C.UTF-8")]
    expected = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on"}
    expected |= {"TimeZone": "UTC", "max_connections": "100", "statement_timeout": "0"}
    assert {name: settings[name] for name in expected} == expected


def test_roles_and_database_that_went_missing_are_made_again(root: Path) -> None:
    with Cluster(root) as endpoints, as_admin(endpoints) as session:
        session.run("DROP DATABASE bmad")
        session.run("DROP ROLE bmad_app")
        assert ask(endpoints) is Answer.UNPREPARED
    with Cluster(root) as endpoints:
        assert ask(endpoints) is Answer.READY


def test_a_half_made_app_role_is_finished_at_the_next_start(root: Path) -> None:
    with Cluster(root) as endpoints, as_admin(endpoints) as session:
        session.run("ALTER ROLE bmad_app NOLOGIN")
        session.run("GRANT CONNECT ON DATABASE bmad TO PUBLIC")
    with Cluster(root) as endpoints, Session(endpoints.socket_file, endpoints.app_role, "bmad") as session:
        assert session.run("SELECT has_database_privilege('public', 'bmad', 'CONNECT')") == [("f",)]


def test_a_session_tells_refusals_by_their_sqlstate_and_goes_on(endpoints: Endpoints) -> None:
    with Session(endpoints.socket_file, endpoints.app_role, endpoints.database) as session:
        with pytest.raises(ServerRefused) as refused:
            session.run("SELECT 1/0")
        assert refused.value.sqlstate == "22012"
        assert session.run("SELECT NULL, '', 'ü'") == [(None, "", "ü")]


@pytest.mark.parametrize(
    "name", ["with space ünïcödé 世界 50%&a=b?c#d+e", "a,comma, it's 'quoted'", 'all "$(touch x)`\\,']
)
async def test_any_folder_name_works_in_every_url(new_root: Callable[..., Path], name: str) -> None:
    cluster = Cluster(new_root(name))
    endpoints = cluster.start()
    for role in (endpoints.app_role, endpoints.owner_role):
        urls: list[dict[str, Any]] = [endpoints.connect_args(role), {"dsn": endpoints.libpq_url(role)}]
        for arguments in urls:
            connection = await asyncpg.connect(**arguments)
            assert await connection.fetchval("SELECT current_user") == role
            await connection.close()
        engine = create_async_engine(endpoints.sqlalchemy_url(role))
        async with engine.connect() as through_sqlalchemy:
            assert await through_sqlalchemy.scalar(text("SELECT current_user")) == role
        await engine.dispose()
    cluster.stop()


@pytest.mark.skipif(not IS_ROOT, reason="as an ordinary user the test above does the same")
def test_any_folder_name_works_for_an_ordinary_user(
    new_root: Callable[..., Path], open_user: Callable[..., Any]
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    root = new_root("ünïcödé \"$(touch x)`\\, it's")
    os.chown(root.parent, nobody, -1)
    user = open_user(root, user=nobody)
    assert user.ask("start")["data"] == str(root / "data")
    assert user.ask("query SELECT 1") == {"rows": [["1"]]}
    assert user.end() == 0


def test_psql_understands_the_libpq_url(endpoints: Endpoints, cluster: Cluster) -> None:
    [psql] = cluster.data_folder.parent.glob("binaries/*/*/pginstall/bin/psql")
    command = [str(psql), "-X", "-A", "-t", "-c", "SELECT current_user", endpoints.libpq_url("bmad_owner")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "bmad_owner\n"


def test_a_path_too_long_for_a_socket_gets_a_private_folder_that_all_processes_find(
    new_root: Callable[..., Path], open_user: Callable[..., Any]
) -> None:
    root = new_root("x" * 100 + "/" + "y" * 80)
    first, second = open_user(root), open_user(root)
    started = first.ask("start")
    folder = Path(started["socket_file"]).parent
    assert len(started["socket_file"]) < 100
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert second.ask("start") == started
    assert second.ask("query SELECT 1") == {"rows": [["1"]]}
    assert first.end() == second.end() == 0
    assert not folder.exists()
