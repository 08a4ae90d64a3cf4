"""The checks of `doctor` for encryption: whether this process has the keys, and whether anything is in the clear."""

import shlex
from collections.abc import AsyncIterator
from importlib import import_module
from uuid import UUID

import asyncpg

from bmad_mcp.commands.finding import Finding
from bmad_mcp.counts import counted
from bmad_mcp.encryption import queries as key_queries
from bmad_mcp.encryption.master_keys import others_may_read
from bmad_mcp.encryption.people import NOBODY
from bmad_mcp.encryption.vaults import Vaults
from bmad_mcp.errors import Unavailable
from bmad_mcp.rekeying import queries
from bmad_mcp.rekeying.people_queries import LEFT
from bmad_mcp.settings import Settings

NAME = "Encryption"


async def check_keys(connection: asyncpg.Connection, settings: Settings, project_id: UUID) -> AsyncIterator[Finding]:
    """The keys of the project that the connection's transaction is on."""
    rows = await connection.fetch(key_queries.KEYS)
    try:
        masters = settings.read_master_keys()
        if masters is None and not rows:
            yield Finding("ok", NAME, "off: memories and summaries are stored in the clear")
            return
        if masters is None:
            raise Unavailable("the project is encrypted and no key is set")
        vault = import_module("bmad_mcp.encryption.vault").Vault(Vaults(settings.read_master_keys), project_id)
        vault.take(rows)
    except Unavailable as error:
        mend = "Set BMAD_ENCRYPTION_KEYS to the keys that the project was encrypted with; nothing else can read it."
        yield Finding("fail", NAME, str(error), mend)
        return
    file = settings.encryption_keys_file
    if file is not None and others_may_read(file):
        yield Finding("warn", NAME, f"others may read {file}", f"Run: chmod 600 {shlex.quote(str(file))}")
    texts = {row["key"]: row["texts"] for row in await connection.fetch(queries.COUNT)}
    if clear := texts.pop(None, 0):
        yield Finding(
            "warn", NAME, f"{counted(clear, 'text is', 'texts are')} in the clear", "Run: bmad-mcp keys encrypt"
        )
    if naming := sum((await connection.fetchrow(LEFT, sorted(NOBODY))).values()):
        yield Finding(
            "warn",
            NAME,
            f"{counted(naming, 'row names', 'rows name')} people in the clear",
            "Run: bmad-mcp keys encrypt",
        )
    if len(rows) > 1:
        yield Finding("warn", NAME, f"{len(rows)} keys: a rotation is not finished", "Run: bmad-mcp keys rotate")
    yield Finding(
        "ok",
        NAME,
        f"on, with the key {next(iter(masters))}; {counted(sum(texts.values()), 'text is', 'texts are')} sealed",
    )
