"""A disk without room: calls say so, the server lives on, and nothing acknowledged is gone once there is room again."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import httpx
import pytest
from commands.command import CLEAN
from harness import EXTERNAL
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints
from bmad_mcp.embedded.postmaster import Postmaster

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs Linux and root"
    ),
    pytest.mark.skipif(bool(EXTERNAL), reason="it fills the disk of the PostgreSQL that it starts"),
]
MEGABYTES = 320
API = "/api/v1/bmad"
# Every row through the heap, whose pages have checksums.
TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
INDEXES = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam
WHERE m.amname = 'btree' AND c.relkind = 'i' AND c.relnamespace = 'public'::regnamespace
"""


@pytest.fixture
def small_disk():
    """A folder on a disk of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bmad-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=711", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"this machine mounts no tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        home = find_home(folder / "postgres")
        if home.folder.exists():
            Postmaster(home).stop(seconds=30)
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def fill(folder: Path, room: int) -> Path:
    """Take all but this much of the room that is left; returns the file that holds it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
        file.truncate(file.tell() - room)
    return filler


async def read_everything(folder: Path) -> dict[str, str]:
    """Every row and every index; the notes of tasks that are there."""
    socket_folder = Postmaster(find_home(folder / "postgres")).socket_folder
    assert socket_folder is not None
    connection = await asyncpg.connect(**Endpoints(socket_folder).connect_args(ADMIN_ROLE))
    try:
        for row in await connection.fetch(TABLES):
            await connection.fetch(f"SELECT * FROM {row[0]}")
        if await connection.fetchval("SELECT true FROM pg_available_extensions WHERE name = 'amcheck'"):
            await connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            for row in await connection.fetch(INDEXES):
                await connection.execute("SELECT bt_index_check($1::regclass, true)", row[0])
        return {
            row["title"]: f"T-{row['number']}" for row in await connection.fetch("SELECT title, number FROM bmad_tasks")
        }
    finally:
        await connection.close()


# Without room a table cannot grow. With some, the write-ahead log cannot go on first, and PostgreSQL ends.
@pytest.mark.parametrize("room", [0, 13 << 20])
async def test_a_full_disk_is_named_and_nothing_acknowledged_is_lost(small_disk, room):
    env = {**CLEAN, "BMAD_DATA_DIR": str(small_disk), "BMAD_MEMORY_PROVIDER": "builtin", "BMAD_LOG_LEVEL": "error"}
    server = HttpServer(env, "--project", fresh_key("disk"), "--port", "0")
    acknowledged: dict[str, str] = {}
    refused: list[httpx.Response] = []
    try:
        async with httpx.AsyncClient(base_url=await asyncio.to_thread(server.ready), timeout=30) as client:

            async def create(number: int) -> httpx.Response:
                task = {"title": f"T{number}", "description": f"{number} " + os.urandom(6_000).hex()}
                answer = await client.post(f"{API}/tasks/create", json=task)
                if answer.is_success:
                    acknowledged[f"T{number}"] = answer.json()["task"]["key"]
                return answer

            for number in range(5):
                assert (await create(number)).is_success
            filler = fill(small_disk, room)
            number = 5
            async with asyncio.timeout(120):
                # Until the room that PostgreSQL had taken before is used up, and some calls after that.
                while len(refused) < 5:
                    if not (answer := await create(number)).is_success:
                        refused.append(answer)
                    number += 1
            assert (await client.get("/health/live")).status_code == 200
            assert {one.status_code for one in refused} == {503}
            assert all(one.headers["retry-after"] for one in refused)
            assert refused[-1].json()["code"] == "disk_full"
            told = refused[-1].json()["detail"]
            assert "hoever runs this server" in told
            assert "no room left" in told or ("is full" in told and "free space" in told), told
            # A table that cannot grow can be read all the same.
            assert room or (await client.get(f"{API}/tasks")).is_success
            async with asyncio.timeout(20):
                # Readiness tells it as soon as it tried to bring the database back itself.
                while room and "is full" not in (await client.get("/health/ready")).json()["reasons"][0]:
                    await asyncio.sleep(0.1)
            filler.unlink()
            async with asyncio.timeout(20):
                while not (await create(number)).is_success:
                    number += 1
                    await asyncio.sleep(0.05)
            read = await client.get(f"{API}/tasks")
            assert read.is_success, read.text
            stored = await read_everything(small_disk)
            assert acknowledged.items() <= stored.items()
            print(f"{len(acknowledged)} acknowledged, {len(stored)} stored")
        assert await asyncio.to_thread(server.stop) == 0
    finally:
        server.kill()
