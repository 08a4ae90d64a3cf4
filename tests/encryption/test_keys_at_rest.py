"""Real processes on a cluster of their own: what lies on its disk, a rotation that is killed, and a lost key."""

import asyncio
import os
import secrets
import signal
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from auth_server import OPERATOR
from commands.command import CLEAN, bmad, fails, succeeds
from data_dirs import new_data_dir
from database_facts import facts, hashes
from encryption_keys import vaults_of
from every_table import fill_every_table, texts_of
from processes import COMMAND, assistant

from bmad_mcp import migrate
from bmad_mcp.analytics.rollup import roll_up
from bmad_mcp.call import Caller, OneProject, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.embedded.binaries import find_binaries
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints
from bmad_mcp.encryption import columns
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.identity.issuing import create_token
from bmad_mcp.identity.members import set_role
from bmad_mcp.identity.principals import Principal
from bmad_mcp.identity.verifying import find_role
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.provider import NewMemory
from bmad_mcp.operation import perform
from bmad_mcp.projects.open import open_project

OLD, NEW = new_key("old"), new_key("new")
CANARIES = 50


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Held, so that no command has to start PostgreSQL.
    with new_data_dir() as found, Cluster(found / "postgres") as endpoints:
        migrate.upgrade("postgresql://", **endpoints.owner_connect())
        yield found


@pytest.fixture
def env(folder: Path) -> dict[str, str]:
    return {"BMAD_DATA_DIR": str(folder), "BMAD_MEMORY_PROVIDER": "builtin", "PYTHONWARNINGS": "ignore"}


def canary() -> str:
    # No name and no number, so that PostgreSQL's search keeps it as one word.
    return "canary" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(20))


async def sing(env: dict[str, str], project: str) -> list[str]:
    """Store a canary in each place that is to be encrypted; all of them."""
    sung: list[str] = []
    unremembered: set[str] = set()

    def new(words: str) -> str:
        sung.append(canary())
        return f"{words} {sung[-1]} of the project"

    async with assistant(env, project) as do:
        for number in range(8):
            await do("agent_activate", agent="dev", focus=new("The focus"), idempotency_key=f"a{number}")
            unremembered.add(sung[-1])
            await do("task_create", title=f"Task {number}")
            claim = await do("task_claim", agent="dev")
            done = {"task": claim["task"]["key"], "lease": claim["lease"], "summary": new("The summary")}
            await do("task_complete", **done, idempotency_key=f"c{number}")
            await do("handoff_offer", to="qa", note=new("The note"))
            unremembered.add(sung[-1])
            await do("agent_deactivate", agent="dev", summary=new("The session"), idempotency_key=f"d{number}")
        for number in range(CANARIES - len(sung)):
            await do("memory_store", text=new("The lesson"), idempotency_key=f"m{number}")
        for number, one in enumerate(sung):
            found = (await do("memory_context", focus=f"the {one}", idempotency_key=f"q{number}"))["items"]
            # What a session was about is no memory, nor is a note that nobody took.
            assert one in unremembered or any(one in item["text"] for item in found)
    assert len(sung) == CANARIES
    return sung


async def sing_names(folder: Path, project: str, *keys: str) -> list[str]:
    """Be somebody of a canary's name in each way to come in, and do something that is kept with who did it."""
    token, mail, subject = canary(), f"{canary()}@example.com", f"https://id.example.com#{canary()}"
    with Cluster(folder / "postgres") as endpoints:
        pool = await open_pool(**endpoints.app_connect())
        async with pool.acquire() as connection:
            project_id, _ = await open_project(connection, project, project)
        vaults = vaults_of(*keys)
        vault = await vaults.of_project(pool, project_id)
        opened = OneProject(OpenProject(project_id, project, pool, vaults=vaults, vault=vault))
        async with open_call(opened, OPERATOR, "member_add") as call:
            for name in (mail, subject):
                await set_role(call, name, "member")
        async with open_call(opened, OPERATOR, "token_create") as call:
            await create_token(call, token, ["write"])
        for name in (token, mail, subject):
            found = await find_role(opened, None, Principal(name, frozenset({"write"})))
            who = found.member.principal
            caller = Caller(who, f"http:{who} window")
            for number, tool in enumerate(("agent_activate", "memory_store", "task_create", "agent_deactivate")):
                arguments = {"memory_store": {"text": "It rains"}, "task_create": {"title": "x"}}.get(
                    tool, {"agent": "dev"}
                )
                await perform(BY_NAME[tool], {**arguments, "idempotency_key": str(number)}, caller, opened)
        await roll_up(pool, project_id)
        await pool.close()
    return [
        word.removeprefix("https://id.example.com#").removesuffix("@example.com") for word in (token, mail, subject)
    ]


def found_in(folder: Path, sung: list[str]) -> dict[str, set[str]]:
    """Which of these words lie in a file below the folder: by the kind of the file."""
    found: dict[str, set[str]] = {"data": set(), "wal": set(), "dump": set()}
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes().lower()
            kind = "wal" if "pg_wal" in file.parts else "dump" if file.suffix == ".sql" else "data"
            found[kind].update(one for one in sung if one.encode() in content)
    return found


async def checkpoint_and_dump(folder: Path) -> None:
    with Cluster(folder / "postgres") as endpoints:
        connection = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
        await connection.execute("CHECKPOINT")
        await connection.close()
        dump = find_binaries().bin_dir / "pg_dump"
        done = subprocess.run([dump, f"--dbname={endpoints.libpq_url(ADMIN_ROLE)}"], capture_output=True, check=True)
    (folder / "dump.sql").write_bytes(done.stdout)


async def test_no_canary_lies_in_the_data_the_log_or_a_dump(folder, env):
    hidden = await sing(env | {"BMAD_ENCRYPTION_KEYS": OLD}, "hidden") + await sing_names(folder, "hidden", OLD)
    plain = await sing(env, "plain") + await sing_names(folder, "plain")
    await checkpoint_and_dump(folder)
    # The same scan finds every one that was stored in the clear.
    assert found_in(folder, plain) == {"data": set(plain), "wal": set(plain), "dump": set(plain)}
    assert found_in(folder, hidden) == {"data": set(), "wal": set(), "dump": set()}


async def fill(folder: Path, project: str, count: int) -> None:
    with Cluster(folder / "postgres") as endpoints:
        pool = await open_pool(**endpoints.app_connect())
        async with pool.acquire() as connection:
            project_id, _ = await open_project(connection, project, project)
        vault = await vaults_of(OLD).of_project(pool, project_id)
        db = Transaction(pool, OpenProject(project_id, project, pool).id, vault)
        texts = [NewMemory(f"Lesson {at} of many", "AGENT_CONTEXT", "agent", "local") for at in range(count)]
        await BuiltinMemory(db).remember(texts)
        await db.end("COMMIT")
        await pool.close()


# A rotation that is cancelled has a test without processes.
@pytest.mark.soak
async def test_a_rotation_that_was_killed_goes_on(folder, env):
    await fill(folder, "many", 3_000)
    both = env | {"BMAD_ENCRYPTION_KEYS": f"{NEW},{OLD}"}
    running = await asyncio.create_subprocess_exec(
        *COMMAND, "keys", "rotate", env={**CLEAN, **both}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    async with asyncio.timeout(90):
        async for line in running.stderr:
            if line.startswith(b"many: 1,000 texts"):
                os.kill(running.pid, signal.SIGKILL)
                break
        await running.wait()
    assert running.returncode == -signal.SIGKILL
    listed = await asyncio.to_thread(succeeds, both, "keys", "list")
    states = [line.split() for line in listed.splitlines() if line.startswith("many ")]
    assert [(one[2], one[3]) for one in states] == [("new", "retired"), ("new", "in")]
    left, moved = (int(one[-1].replace(",", "")) for one in states)
    assert left >= 1_000
    assert left + moved == 3_000
    told = await asyncio.to_thread(succeeds, both, "keys", "rotate")
    assert f"many: {left:,} texts were sealed; the old key is gone" in told
    only_new = env | {"BMAD_ENCRYPTION_KEYS": NEW}
    exported = await asyncio.to_thread(succeeds, only_new, "memory", "export", "--project", "many")
    assert {f'"text": "Lesson {at} of many"' in exported for at in (0, 999, 1_000, 2_999)} == {True}
    assert exported.count("of many") == 3_000


def test_a_start_without_the_key_is_refused_and_writes_nothing(env):
    keys = env | {"BMAD_ENCRYPTION_KEYS": OLD, "BMAD_PROJECT": "refused"}
    asyncio.run(fill(Path(env["BMAD_DATA_DIR"]), "refused", 1))
    before = succeeds(keys, "memory", "export")
    assert "; 1 text is sealed\n" in bmad(keys, "doctor").stdout
    for wrong, why in (
        ({}, "is encrypted and no key is set"),
        ({"BMAD_ENCRYPTION_KEYS": new_key("old")}, "is not the one that this project was encrypted with"),
    ):
        assert why in fails(env | wrong, "serve", "--http", "--port", "0", "--project", "refused")
        assert "fail  Encryption" in bmad(env | wrong, "doctor", "--project", "refused").stdout
    sentence = fails(env | {"BMAD_ENCRYPTION_KEYS": "k1=c2hvcnQ="}, "keys", "list", code=2)
    assert "BMAD_ENCRYPTION_KEYS has a key k1 that is not the base64 of 32 bytes" in sentence
    assert "c2hvcnQ" not in sentence
    assert succeeds(keys, "memory", "export") == before


async def every_row(endpoints: Endpoints) -> tuple[dict[str, str], dict[str, str]]:
    connection = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
    try:
        return await hashes(connection), await facts(connection)
    finally:
        await connection.close()


def test_a_backup_is_restored_with_its_key_and_every_sealed_column_says_the_same(folder, env, tmp_path):
    keys = env | {"BMAD_ENCRYPTION_KEYS": OLD, "BMAD_PROJECT": "escrowed"}
    with Cluster(folder / "postgres") as source:
        app = source.app_connect()
        asyncio.run(fill_every_table(app, source.owner_connect(), "escrowed", OLD))
        succeeds(keys, "db", "backup", str(tmp_path / "b.dump"))
        texts, rows = asyncio.run(texts_of(app, "escrowed", OLD)), asyncio.run(every_row(source))
    places = {place for name, place in vars(columns).items() if name.isupper()}
    assert texts.keys() == places | {"mcp_archive.content"}
    assert [place for place, found in texts.items() if not found] == []
    with new_data_dir() as other:
        there = keys | {"BMAD_DATA_DIR": str(other)}
        succeeds(there, "db", "restore", str(tmp_path / "b.dump"), "--yes")
        with Cluster(other / "postgres") as restored:
            assert asyncio.run(every_row(restored)) == rows
            assert asyncio.run(texts_of(restored.app_connect(), "escrowed", OLD)) == texts
            assert "The gauge drifts at low tide." in succeeds(there, "memory", "export")
            lost = there | {"BMAD_ENCRYPTION_KEYS": NEW}
            assert "with the key old, which is not among" in fails(lost, "memory", "export")


def test_a_new_key_goes_to_stdout_only(env):
    made = bmad(env, "keys", "new", "--id", "k7")
    assert made.stdout.startswith("k7=")
    assert made.stdout.count("\n") == 1
    assert made.stderr == ""
    again = fails(env | {"BMAD_ENCRYPTION_KEYS": made.stdout.strip()}, "keys", "new", "--id", "k7")
    assert "There is a key with that id already" in again
