"""Data of an older PostgreSQL: moved to the newer one when both are there, kept beside it, and never lost on the way."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from database_facts import facts as database_facts
from database_facts import hashes
from every_table import fill_every_table, project_in, texts_of

from bmad_mcp import migrate
from bmad_mcp.call import Caller, OneProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.embedded import Cluster, Endpoints, find_binaries, newer_major
from bmad_mcp.embedded.binaries import Binaries, Place
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.embedded.newer_major import can_move
from bmad_mcp.embedded.session import Session
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.errors import Unavailable
from bmad_mcp.operation import perform

FOLDER_15 = Path("/usr/lib/postgresql/15/bin")
pytestmark = [
    pytest.mark.skipif(not FOLDER_15.is_dir(), reason="needs PostgreSQL 15 of the system"),
    pytest.mark.skipif(not can_move(find_binaries()) or find_binaries().major <= 15, reason="needs a newer one"),
]
NOTES = "SELECT string_agg(md5(n::text), ' ' ORDER BY id) FROM notes n"
KEY = new_key("k1")


def only_15(*, major: int | None = None) -> Binaries:
    return find_binaries(major=major, places=[Place(FOLDER_15, "system")])


def version(endpoints: Endpoints) -> str:
    return told(endpoints, "SHOW server_version_num")[:2]


def told(endpoints: Endpoints, sql: str) -> str:
    with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database) as session:
        return str(session.run(sql)[0][0])


def facts(endpoints: Endpoints) -> dict[str, str]:
    """All that is to be found again: the schema, the rows of every table, and what the sealed texts say."""

    async def read() -> dict[str, str]:
        connection = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
        try:
            seen = {**await database_facts(connection), **await hashes(connection)}
            seen["notes"] = await connection.fetchval(NOTES)
        finally:
            await connection.close()
        texts = await texts_of(endpoints.app_connect(), "sealed", KEY)
        return seen | {place: str(sorted(found.items())) for place, found in texts.items()}

    return asyncio.run(read())


@pytest.fixture(scope="module")
def made_by_15(folder_for_clusters: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of a migrated database of PostgreSQL 15 with rows in every table, and what is to be found again."""
    root = folder_for_clusters / "made-by-15"
    with Cluster(root, find=only_15) as endpoints:
        assert version(endpoints) == "15"
        migrate.upgrade("postgresql://", **endpoints.owner_connect())
        asyncio.run(fill_every_table(endpoints.app_connect(), endpoints.owner_connect(), "sealed", KEY))
        with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database) as session:
            session.run(
                "CREATE TABLE notes (id serial PRIMARY KEY, word text, at timestamptz DEFAULT now(), raw bytea)"
            )
            session.run("ALTER TABLE notes OWNER TO bmad_owner; GRANT SELECT ON notes TO bmad_app")
            session.run(
                "INSERT INTO notes (word, raw) SELECT 'ünïcödé ' || n, '\\x00ff' FROM generate_series(1, 500) n"
            )
        before = facts(endpoints)
    yield root, before
    shutil.rmtree(find_home(root).folder)


@pytest.fixture
def old(made_by_15: tuple[Path, dict[str, str]], new_root: Callable[..., Path]) -> tuple[Path, dict[str, str]]:
    """A copy of it."""
    source, before = made_by_15
    root = new_root()
    subprocess.run(["cp", "-a", find_home(source).folder, root], check=True)
    return root, before


async def work_on(endpoints: Endpoints) -> str:
    """Claim and complete a task; its sealed summary, as who asks is told."""
    async with project_in(endpoints.app_connect(), "sealed", KEY) as opened:

        async def do(name: str, **arguments: Any) -> Any:
            return await perform(BY_NAME[name], arguments, Caller(), OneProject(opened))

        task = (await do("task_create", title="After the move")).task.key
        claimed = await do("task_claim", agent="dev", task=task)
        await do("task_complete", task=task, lease=claimed.lease, summary="It holds there too.")
        return str((await do("task_get", task=task)).task.summary)


def test_the_next_start_moves_it_over_and_keeps_the_old_folder(old: tuple[Path, dict[str, str]]) -> None:
    root, before = old
    folder = find_home(root).folder
    with Cluster(root) as endpoints:
        assert version(endpoints) == str(find_binaries().major)
        assert facts(endpoints) == before
        assert asyncio.run(work_on(endpoints)) == "It holds there too."
        after = facts(endpoints)
    assert (folder / "data-15/PG_VERSION").read_text().strip() == "15"
    assert not list(folder.glob("mov*"))
    # It is moved once.
    with Cluster(root) as endpoints:
        assert facts(endpoints) == after
    assert [one.name for one in sorted(folder.glob("data*"))] == ["data", "data-15"]
    # The old data is whole: put back, it is opened by the old version.
    shutil.rmtree(folder / "data")
    (folder / "data-15").rename(folder / "data")
    with Cluster(root, find=only_15) as endpoints:
        assert facts(endpoints) == before


@pytest.mark.soak
@pytest.mark.parametrize(
    ("spoils", "told_of"),
    [
        ("UPDATE notes SET word = 'other' WHERE id = 7", "public.notes has other contents"),
        pytest.param("DELETE FROM notes WHERE id = 7", "public.notes has 499 rows for 500", marks=pytest.mark.soak),
    ],
)
def test_a_copy_that_differs_in_one_row_is_thrown_away(
    old: tuple[Path, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoils: str,
    told_of: str,
) -> None:
    root, before = old
    run = newer_major._run

    def run_and_spoil(binaries: Binaries, program: str, *arguments: str) -> None:
        run(binaries, program, *arguments)
        if program == "pg_restore":
            run(binaries, "psql", "--quiet", f"--command={spoils}", *(one for one in arguments if "dbname" in one))

    monkeypatch.setattr(newer_major, "_run", run_and_spoil)
    with Cluster(root) as endpoints:
        assert version(endpoints) == "15"
        assert facts(endpoints) == before
    assert told_of in caplog.text
    assert not list(find_home(root).folder.glob("mov*"))


def test_a_table_that_cannot_be_read_leaves_the_old_version_serving(
    old: tuple[Path, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    root, _ = old
    with Cluster(root, find=only_15) as endpoints:
        file = told(endpoints, "SELECT pg_relation_filepath('bmad_templates')")
    with (find_home(root).data / file).open("r+b") as page:
        page.write(b"\xff" * 64)
    with Cluster(root) as endpoints:
        assert version(endpoints) == "15"
        assert told(endpoints, "SELECT count(*) FROM bmad_tasks") != "0"
    assert "invalid page" in caplog.text


def test_without_the_old_programs_it_says_what_to_do_and_touches_nothing(old: tuple[Path, dict[str, str]]) -> None:
    root, before = old

    def only_new(*, major: int | None = None) -> Binaries:
        return find_binaries(major=major, places=[Place(find_binaries().bin_dir, "system")])

    with pytest.raises(Unavailable, match=r"Install PostgreSQL 15 .* the next start moves the data over") as refused:
        Cluster(root, find=only_new).start()
    assert "No PostgreSQL 15 was found" in str(refused.value)
    with Cluster(root, find=only_15) as endpoints:
        assert facts(endpoints) == before


@contextmanager
def broken(program: str, folder: Path) -> Iterator[Binaries]:
    """The newer version with a program that fails."""
    real = find_binaries()
    package = real.bin_dir.parent.parent
    for tree in (package, package.with_name(f"{package.name}.libs")):
        if tree.is_dir():
            shutil.copytree(tree, folder / tree.name, symlinks=True)
    bin_dir = folder / package.name / real.bin_dir.relative_to(package)
    (bin_dir / program).unlink()
    (bin_dir / program).write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (bin_dir / program).chmod(0o755)
    yield Binaries(bin_dir, real.version, real.source)


@pytest.mark.soak
@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_a_move_that_fails_leaves_the_old_version_serving(
    old: tuple[Path, dict[str, str]], folder_for_clusters: Path, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    root, before = old
    with broken(program, folder_for_clusters / program) as new:

        def find(*, major: int | None = None) -> Binaries:
            return only_15(major=major) if major == 15 else new

        with Cluster(root, find=find) as endpoints:
            assert version(endpoints) == "15"
            assert facts(endpoints) == before
    assert "no room" in caplog.text
    assert not list(find_home(root).folder.glob("mov*"))


@pytest.mark.soak
@pytest.mark.parametrize("step", ["unfinished copy", "whole copy", "old one aside", "all but cleaned up"])
def test_a_move_that_a_crash_interrupted_is_gone_on_with(old: tuple[Path, dict[str, str]], step: str) -> None:
    root, before = old
    folder = find_home(root).folder
    if step == "unfinished copy":
        (folder / "moving-18/data.tmp").mkdir(parents=True)
        (folder / "moving-18/all.dump").write_bytes(b"half")
    else:
        with Cluster(root):
            pass
        (folder / "moved-18").mkdir()
        (folder / "data").rename(folder / "moved-18/data")
        if step == "whole copy":
            (folder / "data-15").rename(folder / "data")
        if step == "all but cleaned up":
            (folder / "moved-18/data").rename(folder / "data")
    with Cluster(root) as endpoints:
        assert version(endpoints) == str(find_binaries().major)
        assert facts(endpoints) == before
    assert [one.name for one in sorted(folder.glob("data*"))] == ["data", "data-15"]
    assert not list(folder.glob("mov*"))
