"""Keys for tests, and projects that are encrypted with them."""

from dataclasses import replace

import asyncpg
from harness import TestWorkspace, new_project

from bmad_mcp.call import OpenProject
from bmad_mcp.encryption.master_keys import new_key, parse_keys
from bmad_mcp.encryption.vaults import Vaults


def vaults_of(*keys: str) -> Vaults:
    """The vaults of a process with these keys, as the setting has them."""
    return Vaults(lambda: parse_keys(",".join(keys)) if keys else None)


async def with_keys(opened: OpenProject, *keys: str) -> TestWorkspace:
    """The project as another process with these keys has it."""
    return TestWorkspace(await replace(opened, vaults=vaults_of(*keys)).beside(opened.id, opened.key))


async def encrypted_project(pool: asyncpg.Pool, key: str | None = None) -> TestWorkspace:
    """A new project that is encrypted from its beginning."""
    return await with_keys(await new_project(pool), key or new_key("k1"))
