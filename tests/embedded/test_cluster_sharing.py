"""Many processes, one server: the first in starts it, the last out stops it."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bmad_mcp.embedded import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.embedded.roles import Answer, ask
from bmad_mcp.embedded.session import ServerRefused, Session
from bmad_mcp.errors import Unavailable

OpenUser = Callable[..., Any]
Running = Callable[[int], bool]


def test_the_server_outlives_the_process_that_started_it_while_another_uses_it(
    root: Path, open_user: OpenUser, running: Running
) -> None:
    first, second = open_user(root), open_user(root)
    postmaster = first.ask("start")["postmaster"]
    assert second.ask("start")["postmaster"] == postmaster
    assert first.end() == 0
    assert running(postmaster)
    assert second.ask("query SELECT 40 + 2") == {"rows": [["42"]]}
    assert second.end() == 0
    assert not running(postmaster)


def test_a_process_that_just_ends_leaves_at_exit(root: Path, open_user: OpenUser, running: Running) -> None:
    user = open_user(root)
    postmaster = user.ask("start")["postmaster"]
    assert user.end() == 0
    assert not running(postmaster)


def test_eight_processes_at_once_start_one_server(new_root: Callable[..., Path], open_user: OpenUser) -> None:
    root = new_root()
    users = [open_user(root) for _ in range(8)]
    for user in users:
        user.tell("start")
    started = [user.hear() for user in users]
    assert all(one == started[0] for one in started)
    assert "postmaster" in started[0]
    log = (root / "postgres.log").read_text()
    assert log.count("starting PostgreSQL") == 1
    for user in users:
        user.tell("stop")
    assert [user.hear() for user in users] == [{}] * 8
    log = (root / "postgres.log").read_text()
    assert log.count("database system is shut down") == 1


def test_starting_and_stopping_at_once_never_fails_a_starter(root: Path, open_user: OpenUser) -> None:
    users = [open_user(root) for _ in range(4)]
    for _ in range(6):
        for user in users:
            user.tell("start")
            user.tell("query SELECT 1")
            user.tell("stop")
        for user in users:
            assert "postmaster" in user.hear()
            assert user.hear() == {"rows": [["1"]]}
            assert user.hear() == {}
    assert not (root / "data/postmaster.pid").exists()


def test_two_clusters_of_one_process_count_as_two_users(root: Path) -> None:
    first, second = Cluster(root), Cluster(root)
    endpoints = first.start()
    assert second.start() == endpoints
    first.stop()
    assert ask(endpoints) is Answer.READY
    second.stop()
    assert ask(endpoints) is Answer.SILENT


def test_start_and_stop_may_be_repeated(root: Path) -> None:
    cluster = Cluster(root)
    cluster.stop()
    endpoints = cluster.start()
    assert cluster.start() == endpoints
    cluster.stop()
    cluster.stop()
    assert ask(endpoints) is Answer.SILENT
    with pytest.raises(Unavailable, match="it was stopped, or never started"):
        cluster.ensure_running()
    assert ask(cluster.start()) is Answer.READY
    cluster.stop()


def test_a_server_without_a_free_connection_still_counts_as_running(root: Path) -> None:
    with Cluster(root) as endpoints, Session(endpoints.socket_file, ADMIN_ROLE, "postgres") as session:
        session.run("ALTER SYSTEM SET max_connections = 6")
    with Cluster(root) as endpoints, Session(endpoints.socket_file, ADMIN_ROLE, "postgres") as session:
        session.run("ALTER SYSTEM RESET max_connections")
        with ExitStack() as held:
            for _ in range(2):
                held.enter_context(Session(endpoints.socket_file, endpoints.app_role, endpoints.database))
            with pytest.raises(ServerRefused) as refused:
                Session(endpoints.socket_file, endpoints.app_role, endpoints.database)
            assert refused.value.sqlstate == "53300"
            assert ask(endpoints) is Answer.READY


def test_stop_works_in_a_signal_handler(root: Path, open_user: OpenUser, running: Running) -> None:
    user = open_user(root)
    postmaster = user.ask("start")["postmaster"]
    user.ask("stop_on_sigterm")
    user.process.terminate()
    assert user.process.wait(30) == 0
    assert not running(postmaster)


def test_stop_in_a_signal_handler_that_interrupts_start_takes_effect(root: Path, open_user: OpenUser) -> None:
    user = open_user(root)
    assert "was stopped while it started" in user.ask("start_interrupted")["error"]
    assert not (root / "data/postmaster.pid").exists()
    assert "postmaster" in user.ask("start")


def test_a_forked_child_that_stops_takes_nothing_from_its_parent(
    root: Path, open_user: OpenUser, running: Running
) -> None:
    user = open_user(root)
    postmaster = user.ask("start")["postmaster"]
    assert user.ask("fork") == {"child": 0}
    assert user.ask("query SELECT 1") == {"rows": [["1"]]}
    assert running(postmaster)
    assert user.end() == 0
    assert not running(postmaster)


def test_a_closed_terminal_or_interrupt_key_does_not_reach_the_server(
    root: Path, open_user: OpenUser, running: Running
) -> None:
    user = open_user(root)
    postmaster = user.ask("start")["postmaster"]
    assert os.getsid(postmaster) != os.getsid(user.process.pid)
    assert os.getpgid(postmaster) != os.getpgid(user.process.pid)
