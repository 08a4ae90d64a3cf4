"""The probes beside a PostgreSQL that stops, and a server that does: alive all the time, ready only when it can serve."""

import asyncio

import pytest
from auth_server import guarded_server
from data_dirs import data_dir
from metrics_reader import scrape

from bmad_mcp.app import open_workspace
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import Postmaster
from bmad_mcp.server.health import Readiness
from bmad_mcp.server.metrics.page import MetricsPage
from bmad_mcp.settings import Settings

__all__ = ["data_dir"]


async def until(client, status: int) -> dict:
    async with asyncio.timeout(30):
        while (answer := await client.get("/health/ready")).status_code != status:
            await asyncio.sleep(0.02)
    return answer.json()


@pytest.mark.soak
async def test_a_postgresql_that_stopped_is_told_and_brought_back(data_dir, monkeypatch):
    settings = Settings(data_dir=data_dir, project="probed", database_url=None)
    async with open_workspace(settings) as workspace:
        await workspace.project()
        metrics = MetricsPage(workspace, most_projects=1, interval=1.0)
        async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
            assert (await until(served.client, 200))["status"] == "ready"
            assert (await scrape(served.client)).value("bmad_ready") == 1
            # Readiness mends by itself; what it tells before is seen only while it cannot.
            monkeypatch.setattr(workspace, "mend", _cannot)
            stop = Postmaster(find_home(data_dir / "postgres")).stop
            assert await asyncio.to_thread(stop, seconds=20)
            told = await until(served.client, 503)
            assert "database" in told["reasons"][0].lower()
            assert (await served.client.get("/health/live")).status_code == 200
            assert (await scrape(served.client)).value("bmad_ready") == 0
            monkeypatch.undo()
            assert (await until(served.client, 200))["status"] == "ready"


async def _cannot() -> bool:
    return False


async def test_many_may_ask_again_and_again_at_once(workspace):
    readiness = Readiness(workspace)

    async def ask() -> list[list[str]]:
        return [await readiness.reasons() for _ in range(20)]

    assert await asyncio.gather(*(ask() for _ in range(5))) == [[[]] * 20] * 5


async def test_a_server_that_ends_is_alive_and_no_longer_ready(workspace):
    readiness = Readiness(workspace)
    async with guarded_server(workspace, is_authenticated=False, readiness=readiness) as served:
        assert (await served.client.get("/health/ready")).status_code == 200
        readiness.stop()
        answer = await served.client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["The server is shutting down."]
        assert (await served.client.get("/health/live")).status_code == 200
