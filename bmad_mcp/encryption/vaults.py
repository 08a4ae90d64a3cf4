"""Finds the vault of each project, and refuses to go on where a key is missing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from bmad_mcp.db import Transaction, project_transaction
from bmad_mcp.encryption import queries
from bmad_mcp.encryption.master_keys import MasterKeys
from bmad_mcp.errors import KeyMissing

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault


class Unreadable(Exception):
    """What is stored was not sealed with this key for this place, or is damaged."""


class Vaults:
    """The vaults of all projects of a database, as far as this process needs them."""

    def __init__(self, read_keys: Callable[[], MasterKeys | None]) -> None:
        """`read_keys` reads the setting: again whenever a key is missing, as a file may have it by now."""
        self.read_keys = read_keys
        self._open: dict[UUID, Vault | None] = {}

    async def of_project(self, pool: asyncpg.Pool, project_id: UUID) -> Vault | None:
        """The vault of a project, or None when nothing is encrypted; makes the first key of a project.

        Raises KeyMissing when a key is missing or wrong.
        """
        if project_id not in self._open:
            async with project_transaction(pool, project_id) as db:
                found = await self._find(db)
            self._open[project_id] = found
        return self._open[project_id]

    async def _find(self, db: Transaction) -> Vault | None:
        if self.read_keys() is None:
            if await db.fetchval(queries.HAS_KEYS):
                raise KeyMissing(
                    "This project is encrypted and no key is set.",
                    "set BMAD_ENCRYPTION_KEYS or BMAD_ENCRYPTION_KEYS_FILE to the keys that it was encrypted with",
                )
            return None
        # The ciphers cost a start thirty milliseconds, which only those pay who have keys.
        vault: Vault = import_module("bmad_mcp.encryption.vault").Vault(self, db.project_id)
        await vault.look_again(db)
        if not vault.has_keys:
            await vault.make_first_key(db)
        return vault


def row_of(*parts: str) -> str:
    """The name of a row whose key has several parts, which may hold anything."""
    return ":".join(base64.urlsafe_b64encode(part.encode()).decode() for part in parts)
