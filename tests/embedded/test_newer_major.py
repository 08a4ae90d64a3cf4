"""Data of an older PostgreSQL: moved to the newer one when both are there, kept beside it, and never lost on the way."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from database_facts import FACTS as DATABASE_FACTS

from bmad_mcp import migrate
from bmad_mcp.embedded import Cluster, Endpoints, find_binaries
from bmad_mcp.embedded.binaries import Binaries, Place
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.embedded.newer_major import can_move
from bmad_mcp.embedded.session import Session
from bmad_mcp.errors import Unavailable

FOLDER_15 = Path("/usr/lib/postgresql/15/bin")
pytestmark = [
    pytest.mark.skipif(not FOLDER_15.is_dir(), reason="needs PostgreSQL 15 of the system"),
    pytest.mark.skipif(not can_move(find_binaries()) or find_binaries().major <= 15, reason="needs a newer one"),
]
FACTS = DATABASE_FACTS | {
    "notes": "SELECT string_agg(md5(n::text), ' ' ORDER BY id) FROM notes n",
    "sequence": "SELECT last_value FROM notes_id_seq",
}


def only_15(*, major: int | None = None) -> Binaries:
    return find_binaries(major=major, places=[Place(FOLDER_15, "system")])


def version(endpoints: Endpoints) -> str:
    return told(endpoints, "SHOW server_version_num")[:2]


def told(endpoints: Endpoints, sql: str) -> str:
    with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database) as session:
        return str(session.run(sql)[0][0])


def facts(endpoints: Endpoints) -> dict[str, str]:
    return {name: told(endpoints, sql) for name, sql in FACTS.items()}


@pytest.fixture
def old(new_root: Callable[..., Path]) -> tuple[Path, dict[str, str]]:
    """The folder of a migrated database of PostgreSQL 15, with rows, and what is to be found again."""
    root = new_root()
    with Cluster(root, find=only_15) as endpoints:
        assert version(endpoints) == "15"
        migrate.upgrade("postgresql://", **endpoints.owner_connect())
        with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database) as session:
            session.run(
                "CREATE TABLE notes (id serial PRIMARY KEY, word text, at timestamptz DEFAULT now(), raw bytea)"
            )
            session.run("ALTER TABLE notes OWNER TO bmad_owner; GRANT SELECT ON notes TO bmad_app")
            session.run(
                "INSERT INTO notes (word, raw) SELECT 'ünïcödé ' || n, '\\x00ff' FROM generate_series(1, 500) n"
            )
        return root, facts(endpoints)


def test_the_next_start_moves_it_over_and_keeps_the_old_folder(old: tuple[Path, dict[str, str]]) -> None:
    root, before = old
    folder = find_home(root).folder
    with Cluster(root) as endpoints:
        assert version(endpoints) == str(find_binaries().major)
        assert facts(endpoints) == before
    assert (folder / "data-15/PG_VERSION").read_text().strip() == "15"
    assert not list(folder.glob("mov*"))
    # It is moved once.
    with Cluster(root) as endpoints:
        assert facts(endpoints) == before
    assert [one.name for one in sorted(folder.glob("data*"))] == ["data", "data-15"]
    # The old data is whole: put back, it is opened by the old version.
    shutil.rmtree(folder / "data")
    (folder / "data-15").rename(folder / "data")
    with Cluster(root, find=only_15) as endpoints:
        assert facts(endpoints) == before


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
