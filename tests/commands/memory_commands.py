"""Projects beside a memory service in the database that the commands use, and the commands run on them."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from commands.command import bmad
from memory.keeping_project import Kept, kept_project, one_service
from processes import fresh_key

from bmad_mcp.app import open_workspace
from bmad_mcp.settings import Settings


@dataclass
class Commands(Kept):
    """A project, its service, and `bmad-mcp memory …` on it."""

    env: Mapping[str, str]

    async def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The finished command: with the fake in this very loop, it runs in a thread."""
        return await asyncio.to_thread(bmad, {**self.env, **env}, *arguments)

    async def succeeds(self, *arguments: str, **env: str) -> str:
        """What a command that has to succeed printed on stdout."""
        done = await self.run(*arguments, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def fails(self, *arguments: str, code: int = 1, **env: str) -> str:
        """The sentence of a command that has to fail."""
        done = await self.run(*arguments, **env)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr


@asynccontextmanager
async def command_pool(server_env: Mapping[str, str]) -> AsyncIterator[asyncpg.Pool]:
    """Connections to the database that `server_env` names."""
    async with open_workspace(settings_of(server_env, fresh_key("pool"), memory_provider="builtin")) as workspace:
        yield (await workspace.project()).pool


def settings_of(server_env: Mapping[str, str], project: str, **more: Any) -> Settings:
    """The settings of a command on the database that `server_env` names."""
    names = {"BMAD_DATA_DIR": "data_dir", "BMAD_DATABASE_URL": "database_url"}
    values: dict[str, Any] = {names[name]: value for name, value in server_env.items() if name in names}
    return Settings(**values, project=project, **more)


@asynccontextmanager
async def commands_on(pool: asyncpg.Pool, server_env: Mapping[str, str], server: Any) -> AsyncIterator[Commands]:
    """A new project whose commands go to this server."""
    async with kept_project(pool, server) as kept:
        env = {
            "BMAD_MEMORY_URL": server.url,
            "BMAD_MEMORY_PROVIDER": server.kind,
            "BMAD_MEMORY_USER": "bmad",
            "BMAD_PROJECT": kept.opened.key,
        }
        yield Commands(kept.opened, server, {**server_env, **env})


__all__ = ["Commands", "command_pool", "commands_on", "one_service", "settings_of"]
