"""Root, ordinary users, borrowed users, uids without a name, and folders that one may not enter."""

import os
import pwd
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bmad_mcp.embedded import Cluster
from bmad_mcp.embedded.data_home import SERVICE_DATA, find_home
from bmad_mcp.embedded.roles import Answer, ask
from bmad_mcp.embedded.session import Session
from bmad_mcp.embedded.socket_folder import make_socket_folder
from bmad_mcp.errors import Unavailable

OpenUser = Callable[..., Any]
IS_ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not IS_ROOT, reason="only root can become other users")
UNNAMED_UID = 54_321


@pytest.fixture
def unreachable_root() -> Iterator[Path]:
    folder = Path("/tmp") / f"bmad-private-{os.getpid()}"
    folder.mkdir(mode=0o700)
    yield folder / "cluster"
    elsewhere = find_home(folder / "cluster").folder
    shutil.rmtree(folder)
    shutil.rmtree(elsewhere)
    with suppress(OSError):
        SERVICE_DATA.rmdir()


@root_only
def test_root_runs_the_server_as_another_user_in_the_folder_asked_for(root: Path) -> None:
    with Cluster(root) as endpoints:
        pid = int((root / "data/postmaster.pid").read_text().split()[0])
        uid = Path(f"/proc/{pid}").stat().st_uid
        assert pwd.getpwuid(uid).pw_name in ("postgres", "nobody")
        assert (root / "data").stat().st_uid == uid
        assert Cluster(root).data_folder == root / "data"
        with Session(endpoints.socket_file, "bmad_admin", "postgres") as session:
            mapped = {user for (user,) in session.run("SELECT DISTINCT sys_name FROM pg_ident_file_mappings")}
        assert mapped == {"root"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of a process in /proc")
def test_the_server_inherits_no_secret_from_the_environment(root: Path, open_user: OpenUser) -> None:
    user = open_user(root)
    started = user.ask("start")
    assert b"canary" in Path(f"/proc/{user.process.pid}/environ").read_bytes()
    environment = Path(f"/proc/{started['postmaster']}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"canary" not in environment


@root_only
def test_where_the_other_user_may_not_enter_the_data_lives_among_the_services(
    unreachable_root: Path, open_user: OpenUser
) -> None:
    cluster = Cluster(unreachable_root)
    assert cluster.data_folder.parent.parent == SERVICE_DATA
    with cluster as endpoints:
        assert ask(endpoints) is Answer.READY
        assert open_user(unreachable_root).ask("start")["data"] == str(cluster.data_folder)
        assert not unreachable_root.exists()
    assert (cluster.data_folder / "PG_VERSION").exists()
    assert str(unreachable_root) in (cluster.data_folder.parent / "path.txt").read_text()


@root_only
def test_data_that_became_unreachable_is_an_error_and_not_an_empty_database(root: Path) -> None:
    root.parent.chmod(0o700)
    try:
        with pytest.raises(Unavailable, match=r"may not enter .*chmod o\+x"):
            Cluster(root).start()
    finally:
        root.parent.chmod(0o755)


@root_only
def test_an_ordinary_user_runs_the_server_itself(new_root: Callable[..., Path], open_user: OpenUser) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    root = new_root()
    os.chown(root.parent, nobody, -1)
    user = open_user(root, user=nobody)
    started = user.ask("start")
    assert Path(f"/proc/{started['postmaster']}").stat().st_uid == nobody
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert user.ask("query SELECT current_user") == {"rows": [["bmad_owner"]]}

    as_root = open_user(root)
    assert as_root.ask("start")["postmaster"] == started["postmaster"]
    assert user.end() == 0
    assert as_root.ask("query SELECT 1") == {"rows": [["1"]]}
    assert as_root.end() == 0

    as_root = open_user(root)
    again = as_root.ask("start")
    assert Path(f"/proc/{again['postmaster']}").stat().st_uid == nobody
    assert as_root.end() == 0
    assert "postmaster" in open_user(root, user=nobody).ask("start")


@root_only
def test_a_uid_without_a_name_is_told_what_to_do(new_root: Callable[..., Path], open_user: OpenUser) -> None:
    root = new_root()
    os.chown(root.parent, UNNAMED_UID, -1)
    error = open_user(root, user=UNNAMED_UID).ask("start")["error"]
    assert f"uid {UNNAMED_UID}" in error
    assert "/etc/passwd" in error
    assert "BMAD_DATABASE_URL" in error


@root_only
def test_a_folder_of_an_unnamed_uid_as_containers_mount_it_is_used_by_root(new_root: Callable[..., Path]) -> None:
    root = new_root()
    root.mkdir()
    os.chown(root, UNNAMED_UID, -1)
    with Cluster(root) as endpoints:
        assert ask(endpoints) is Answer.READY
    assert (root / "data/PG_VERSION").exists()


@root_only
def test_a_folder_of_somebody_else_is_refused_with_a_mend(root: Path, open_user: OpenUser) -> None:
    error = open_user(root, user=pwd.getpwnam("nobody").pw_uid).ask("start")["error"]
    assert "Permission denied" in error
    assert "BMAD_DATA_DIR" in error


def test_a_link_in_place_of_the_socket_folder_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "run").symlink_to(tmp_path)
    with pytest.raises(Unavailable, match="can enter, and it is not"):
        Cluster(root).start()
    (root / "run").unlink()
    assert not list(tmp_path.iterdir())


def test_a_socket_folder_open_to_others_is_refused(root: Path) -> None:
    make_socket_folder(find_home(root)).chmod(0o755)
    with pytest.raises(Unavailable, match="can enter, and it is not"):
        Cluster(root).start()


@root_only
def test_root_follows_no_link_that_the_folders_owner_planted(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    for name in ("bmad-mcp.conf.tmp", "pg_hba.conf", "pg_ident.conf.tmp"):
        (root / "data" / name).unlink(missing_ok=True)
        (root / "data" / name).symlink_to(target)
    (root / "users.lock").unlink()
    (root / "users.lock").symlink_to(target)
    with pytest.raises(Unavailable, match=r"users\.lock"):
        Cluster(root).start()
    (root / "users.lock").unlink()
    with Cluster(root):
        pass
    assert target.read_text() == "precious"
    assert target.stat().st_uid == 0
