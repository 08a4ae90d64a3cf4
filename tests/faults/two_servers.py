"""Two servers on an embedded PostgreSQL of their own, each of which may be killed."""

import asyncio
import os
import signal
from pathlib import Path

from commands.command import CLEAN
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import Postmaster


class TwoServers:
    """They share a data folder and a project; PostgreSQL comes back by whoever needs it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.project = folder, fresh_key(name)
        self.env = {**CLEAN, "BMAD_DATA_DIR": str(folder), "BMAD_PROJECT": self.project, "BMAD_LOG_LEVEL": "error"}
        self.env |= {"BMAD_MEMORY_PROVIDER": "builtin"}
        self.servers: list[HttpServer] = []
        self.addresses: list[str] = []

    async def begin(self) -> None:
        """Both are ready."""
        for _ in range(2):
            self.servers.append(HttpServer(self.env, "--port", "0"))
            self.addresses.append(await asyncio.to_thread(self.servers[-1].ready))

    @property
    def ports(self) -> list[int]:
        return [int(one.rpartition(":")[2]) for one in self.addresses]

    @property
    def postmaster(self) -> Postmaster:
        return Postmaster(find_home(self.folder / "postgres"))

    async def kill_server(self, at: int) -> None:
        """With SIGKILL; it is ready again where it was."""
        await asyncio.to_thread(self.servers[at].kill)
        self.servers[at] = HttpServer(self.env, "--port", str(self.ports[at]))
        await asyncio.to_thread(self.servers[at].ready)

    def kill_postgresql(self) -> bool:
        """With SIGKILL; False where there is none just now."""
        pid = self.postmaster.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid is not None

    def end(self) -> None:
        """Nothing is left of them."""
        for one in self.servers:
            one.kill()
