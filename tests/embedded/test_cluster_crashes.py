"""kill -9 of anybody at any moment: the next start heals, and acknowledged data is there."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bmad_mcp.embedded import Cluster
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import LOG_LIMIT_BYTES, Postmaster
from bmad_mcp.embedded.roles import Answer, ask
from bmad_mcp.embedded.session import Session
from bmad_mcp.embedded.socket_folder import make_socket_folder
from bmad_mcp.errors import Unavailable

OpenUser = Callable[..., Any]
Running = Callable[[int], bool]
WaitFor = Callable[..., None]


def owner_session(cluster: Cluster) -> Session:
    endpoints = cluster.ensure_running()
    return Session(endpoints.socket_file, endpoints.owner_role, endpoints.database)


def test_a_killed_user_leaves_a_server_that_the_next_adopts_and_stops(
    root: Path, open_user: OpenUser, running: Running
) -> None:
    killed, next_one = open_user(root), open_user(root)
    postmaster = killed.ask("start")["postmaster"]
    killed.kill()
    assert running(postmaster)
    assert next_one.ask("start")["postmaster"] == postmaster
    assert next_one.end() == 0
    assert not running(postmaster)


def test_a_user_killed_while_others_live_no_longer_counts(root: Path, open_user: OpenUser, running: Running) -> None:
    killed, other = open_user(root), open_user(root)
    postmaster = killed.ask("start")["postmaster"]
    other.ask("start")
    killed.kill()
    assert other.ask("query SELECT 1") == {"rows": [["1"]]}
    assert other.end() == 0
    assert not running(postmaster)


def test_after_kill_9_of_the_postmaster_all_users_go_on_with_their_data(
    root: Path, open_user: OpenUser, running: Running
) -> None:
    users = [open_user(root) for _ in range(3)]
    for user in users:
        started = user.ask("start")
    users[0].ask("query DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS n")
    os.kill(started["postmaster"], signal.SIGKILL)
    for user in users:
        user.tell("ensure_running")
    healed = [user.hear() for user in users]
    assert all(one == healed[0] for one in healed)
    assert healed[0]["postmaster"] != started["postmaster"]
    assert [user.ask("query SELECT n FROM kept") for user in users] == [{"rows": [["7"]]}] * 3
    assert [user.end() for user in users] == [0, 0, 0]
    assert not running(healed[0]["postmaster"])


def test_a_start_waits_for_a_query_that_outlives_its_killed_postmaster(root: Path) -> None:
    cluster = Cluster(root)
    cluster.start()
    # A busy loop does not look whether the postmaster lives, as a sleep would.
    loop = """
        DO $$ DECLARE done timestamptz := clock_timestamp() + '2 s';
        BEGIN WHILE clock_timestamp() < done LOOP END LOOP; END $$
    """
    busy = owner_session(cluster)
    outcome: list[BaseException | None] = []

    def run_loop() -> None:
        try:
            busy.run(loop)
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=run_loop)
    thread.start()
    with owner_session(cluster) as session:
        while session.run(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%DO $$ DECLARE%' AND pid <> pg_backend_pid()"
        ) != [("1",)]:
            pass
    server = Postmaster(find_home(root))
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    assert server.is_alive()
    assert ask(cluster.ensure_running()) is Answer.READY
    thread.join(10)
    assert len(outcome) == 1
    busy.__exit__(None, None, None)
    cluster.stop()


def test_kill_9_of_a_backend_only_delays_the_next_connection(root: Path) -> None:
    cluster = Cluster(root)
    cluster.start()
    with owner_session(cluster) as session:
        [(backend,)] = session.run("SELECT pg_backend_pid()")
        assert backend
        os.kill(int(backend), signal.SIGKILL)
        with pytest.raises(OSError, match=r"closed|reset|Broken"):
            session.run("SELECT 1")
    assert ask(cluster.ensure_running()) is Answer.READY
    cluster.stop()


@pytest.mark.parametrize(
    "sign", ["postgresql.conf", *(pytest.param(late, marks=pytest.mark.soak) for late in ("PG_VERSION", "base/5"))]
)
def test_kill_9_during_initdb_is_cleaned_up_by_the_next_start(
    new_root: Callable[..., Path], open_user: OpenUser, wait_for: WaitFor, sign: str
) -> None:
    root = new_root()
    killed = open_user(root)
    killed.tell("start")
    wait_for((root / "data.tmp" / sign).exists)
    killed.kill()
    assert not (root / "data").exists()
    with Cluster(root) as endpoints:
        assert ask(endpoints) is Answer.READY
        assert not (root / "data.tmp").exists()


def test_kill_9_between_initdb_and_the_roles_is_mended_by_the_next_start(
    new_root: Callable[..., Path], open_user: OpenUser, wait_for: WaitFor
) -> None:
    root = new_root()
    killed = open_user(root)
    killed.tell("start")
    wait_for((root / "data").exists)
    killed.kill()
    with Cluster(root) as endpoints:
        assert ask(endpoints) is Answer.READY


def test_a_pid_file_whose_number_now_belongs_to_another_process_does_not_block(root: Path) -> None:
    with Cluster(root):
        left_behind = (root / "data/postmaster.pid").read_text().splitlines()
    stale = "\n".join([str(os.getpid()), *left_behind[1:], ""])
    (root / "data/postmaster.pid").write_text(stale)
    make_socket_folder(find_home(root))
    (root / "run/.s.PGSQL.5432.lock").write_text(stale)
    with Cluster(root) as endpoints:
        assert ask(endpoints) is Answer.READY


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="pid namespaces need Linux and root")
def test_as_process_1_of_a_container_a_killed_postmaster_is_replaced(root: Path) -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from bmad_mcp.embedded import Cluster
cluster = Cluster(Path({str(root)!r}))
cluster.start()
pid = int((cluster.data_folder / "postmaster.pid").read_text().split()[0])
os.kill(pid, signal.SIGKILL)
cluster.ensure_running()
again = int((cluster.data_folder / "postmaster.pid").read_text().split()[0])
stat = Path(f"/proc/{{pid}}/stat")
print(os.getpid(), again != pid, stat.exists() and stat.read_text().split()[2])
cluster.stop()
print((cluster.data_folder / "postmaster.pid").exists())
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip(f"this machine makes no pid namespaces: {done.stderr}")
    assert done.stdout.split() == ["1", "True", "Z", "False"], done.stderr


def test_a_server_that_cannot_start_says_so_with_the_end_of_its_log(root: Path) -> None:
    automatic = root / "data/postgresql.auto.conf"
    good = automatic.read_text()
    automatic.write_text(good + "shared_buffers = '9000TB'\n")
    try:
        with pytest.raises(Unavailable, match="ended while it started") as refused:
            Cluster(root).start()
    finally:
        automatic.write_text(good)
    assert "shared_buffers" in str(refused.value)
    assert "postgres.log" in str(refused.value)


def test_the_log_is_put_aside_when_it_grew_too_long(root: Path) -> None:
    log = root / "postgres.log"
    with Cluster(root):
        pass
    owner = log.stat()
    with log.open("a") as file:
        file.write("x" * (LOG_LIMIT_BYTES + 1))
    with Cluster(root):
        assert log.stat().st_size < LOG_LIMIT_BYTES
        assert (log.stat().st_uid, log.stat().st_mode) == (owner.st_uid, owner.st_mode)
    assert (root / "postgres.log.old").stat().st_size > LOG_LIMIT_BYTES


def test_a_folder_that_vanishes_under_a_running_server_lets_its_user_leave(root: Path, open_user: OpenUser) -> None:
    user = open_user(root)
    postmaster = user.ask("start")["postmaster"]
    aside = root.with_name("moved-away")
    root.rename(aside)
    assert user.ask("stop") == {}
    aside.rename(root)
    os.kill(postmaster, signal.SIGQUIT)


@pytest.mark.soak
def test_a_frozen_server_is_reported_and_adopted_when_it_thaws(root: Path) -> None:
    cluster = Cluster(root)
    cluster.start()
    pid = Postmaster(find_home(root)).pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match=f"nothing answers at .*kill -INT {pid}"):
            cluster.ensure_running()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ask(cluster.ensure_running()) is Answer.READY
    cluster.stop()


@pytest.mark.soak
def test_random_kills_of_users_and_postmasters_lose_no_acknowledged_row(root: Path, open_user: OpenUser) -> None:
    import random

    rng = random.Random(20261123)
    first = open_user(root)
    first.ask("start")
    first.ask("query DROP TABLE IF EXISTS acknowledged; CREATE TABLE acknowledged (n int PRIMARY KEY)")
    users, written = [first], 0
    for _ in range(60):
        if len(users) < 3:
            users.append(open_user(root))
            users[-1].ask("start")
        user = rng.choice(users)
        if user.ask(f"query INSERT INTO acknowledged VALUES ({written}) RETURNING n") == {"rows": [[str(written)]]}:
            written += 1
        match rng.randrange(4):
            case 0:
                users.remove(user)
                user.kill()
            case 1:
                os.kill(user.ask("start")["postmaster"], signal.SIGKILL)
        survivors = [one.ask("start") for one in users]
        assert all("postmaster" in one for one in survivors), survivors
        if not users:
            users.append(open_user(root))
            users[0].ask("start")
    assert users[0].ask("query SELECT count(*) FROM acknowledged") == {"rows": [[str(written)]]}
    assert written == 60
