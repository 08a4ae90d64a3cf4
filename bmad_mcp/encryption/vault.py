"""What seals and opens the texts of a project: its data keys, unwrapped in this process only."""

import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.db import Transaction
from bmad_mcp.encryption import queries
from bmad_mcp.encryption.columns import PERSON
from bmad_mcp.encryption.master_keys import KEY_BYTES, MasterKeys
from bmad_mcp.encryption.people import is_person, new_pseudonym, parts_of
from bmad_mcp.encryption.sealing import SealingKey, key_of, prefix_of
from bmad_mcp.encryption.vaults import Unreadable, Vaults
from bmad_mcp.errors import KeyMissing, Unavailable

logger = logging.getLogger("bmad_mcp.encryption")

# A rotation waits this long before it seals anything with the new key: every process asks with it by then.
FRESH_SECONDS = 5.0
WRAPPED = "mcp_data_keys.wrapped"
UNREADABLE = "[This text cannot be read: it is damaged, or its key is gone. `bmad-mcp doctor` tells more.]"


class Reads(Protocol):
    """A connection in the project's scope, or a transaction on one."""

    async def fetch(self, sql: str, *values: Any) -> list[Any]: ...


class Vault:
    """Seals with the key in use and opens with every key that the project still has."""

    def __init__(self, vaults: Vaults, project_id: UUID) -> None:
        self._vaults = vaults
        self._project = project_id
        self._keys: dict[str, SealingKey] = {}
        self._in_use: str | None = None
        self._looked_at = 0.0
        self._unknown: set[str] = set()

    @property
    def has_keys(self) -> bool:
        """Whether the project has any key yet."""
        return bool(self._keys)

    @property
    def in_use(self) -> SealingKey:
        """The key that seals now; raises Unavailable where a read-only server found none."""
        if self._in_use is None:
            raise Unavailable(
                "The project has no encryption key yet, and this server may not make one. Start a server that may write."
            )
        return self._keys[self._in_use]

    @property
    def done(self) -> str:
        """What every text begins with that is sealed with the key in use."""
        return prefix_of(self.in_use.name)

    @property
    def retired(self) -> tuple[str, ...]:
        """The ids of the keys that only open."""
        return tuple(name for name in self._keys if name != self._in_use)

    def forget_freshness(self) -> None:
        """Look at the keys again before the next text: the database refused the one that was used."""
        self._looked_at = 0.0

    async def look_again(self, db: Reads) -> None:
        """Read the keys; raises KeyMissing naming the one that is missing or wrong."""
        self.take(await db.fetch(queries.KEYS))

    def take(self, rows: Sequence[Any]) -> None:
        """Unwrap the keys in these rows; raises the same."""
        found = {}
        for row in rows:
            known = self._keys.get(row["id"])
            found[row["id"]] = known or self._unwrapped(row["id"], row["master_key"], row["wrapped"])
        self._keys = found
        self._in_use = next((row["id"] for row in reversed(rows) if not row["is_retired"]), None)
        self._looked_at = time.monotonic()

    async def keep_fresh(self, db: Reads) -> None:
        """Look at the keys again when that is a few seconds ago: another process may have begun to rotate."""
        if time.monotonic() - self._looked_at > FRESH_SECONDS / 2:
            await self.look_again(db)

    async def make_first_key(self, db: Transaction) -> None:
        """Make the project's first key, where this process may write."""
        try:
            await db.execute("SAVEPOINT first_key")
            await self.add_key(db)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
            await db.execute("ROLLBACK TO SAVEPOINT first_key")
        await self.look_again(db)

    async def add_key(self, db: Reads) -> None:
        """Make a key and wrap it with the first one of the setting; nothing when the project has one in use."""
        name, key = secrets.token_hex(6), secrets.token_bytes(KEY_BYTES)
        master, wrapped = self.wrap(name, key)
        await db.fetch(queries.ADD_KEY, name, master, wrapped)

    async def wrap_again(self, db: Transaction) -> None:
        """Wrap every key of the project with the first one of the setting."""
        for name, key in self._keys.items():
            await db.execute(queries.WRAP_AGAIN, name, *self.wrap(name, key.raw()))

    def wrap(self, name: str, key: bytes) -> tuple[str, str]:
        """The id of the setting's first key, and a data key wrapped with it."""
        masters = self._masters()
        master = next(iter(masters))
        return master, SealingKey(master, masters[master], self._project).seal(WRAPPED, name, key)

    async def seal(self, db: Reads, place: str, row: str, text: str) -> str:
        """The text as it is stored in this place (`table.column`) of this row."""
        await self.keep_fresh(db)
        return self.in_use.seal(place, row, text.encode())

    async def open(self, db: Reads, place: str, row: str, text: str) -> str:
        """A stored text as it was; what was stored in the clear stays as it is. Raises Unreadable."""
        name = key_of(text)
        if name is None:
            return text
        if name not in self._keys and name not in self._unknown:
            await self.look_again(db)
            if name not in self._keys:
                self._unknown.add(name)
        if name not in self._keys:
            raise Unreadable
        return self._keys[name].open(place, row, text).decode()

    async def reveal(self, db: Reads, place: str, row: str, text: str) -> str:
        """The same for people and models: a note stands in the place of what cannot be read."""
        try:
            return await self.open(db, place, row, text)
        except Unreadable:
            logger.error("%s of row %s cannot be decrypted", place, row)
            return UNREADABLE

    def marks(self, kind: str, text: str) -> list[str]:
        """The marks of a text by every key: what is looked for may be sealed with any of them."""
        return [key.mark(kind, text) for key in self._keys.values()]

    async def marks_of_person(self, db: Reads, name: str) -> list[str]:
        """What finds a person's row, whichever key it is sealed with; nothing for what is no person's name."""
        if not is_person(name):
            return []
        await self.keep_fresh(db)
        return [key.mark_of_person(name) for key in self._keys.values()]

    async def find_person(self, db: Reads, name: str) -> str | None:
        """The pseudonym of a person; None for one who is not known here."""
        found = await db.fetch(queries.FIND_PEOPLE, await self.marks_of_person(db, name))
        return found[0]["id"] if found else None

    async def pseudonym(self, db: Reads, name: str) -> str:
        """How rows are to name a person, who is known from then on; what is no person's name stays."""
        if not is_person(name):
            return name
        while True:
            if (found := await self.find_person(db, name)) is not None:
                return found
            made = new_pseudonym()
            sealed = self.in_use.seal(PERSON, made, name.encode())
            if await db.fetch(queries.ADD_PERSON, made, sealed, self.in_use.mark_of_person(name)):
                return made

    async def pseudonyms(self, db: Reads, names: Iterable[str]) -> dict[str, str]:
        """The same for many names, in one look where they are known."""
        marks = {mark: name for name in names for mark in await self.marks_of_person(db, name)}
        rows = await db.fetch(queries.FIND_PEOPLE, list(marks))
        known = {marks[row["mark"]]: row["id"] for row in rows}
        return {name: known.get(name) or await self.pseudonym(db, name) for name in names}

    async def person(self, db: Reads, told: str) -> str:
        """The name in what `people.told` gave; the pseudonym where the name was erased or cannot be read."""
        parts = parts_of(told)
        if parts is None:
            return told
        try:
            return await self.open(db, PERSON, *parts)
        except Unreadable:
            logger.error("%s of row %s cannot be decrypted", PERSON, parts[0])
            return parts[0]

    async def people(self, db: Reads) -> dict[str, str]:
        """The names of all people of the project by their pseudonyms."""
        rows = await db.fetch(queries.PEOPLE)
        return {row["id"]: await self.person(db, f"{row['id']} {row['name']}") for row in rows}

    async def beside(self, db: Reads, project_id: UUID) -> "Vault":
        """The vault of another project, whose scope the transaction has entered."""
        vault = Vault(self._vaults, project_id)
        await vault.look_again(db)
        if not vault.has_keys:
            await vault.add_key(db)
            await vault.look_again(db)
        return vault

    def _masters(self) -> MasterKeys:
        masters = self._vaults.read_keys()
        if masters is None:
            raise KeyMissing("No encryption key is set any more.", "set BMAD_ENCRYPTION_KEYS again")
        return masters

    def _unwrapped(self, name: str, master: str, wrapped: str) -> SealingKey:
        masters = self._masters()
        if master not in masters:
            raise KeyMissing(
                f"This project is encrypted with the key {master}, which is not among the keys of this process"
                f" ({', '.join(masters)}).",
                "add it to BMAD_ENCRYPTION_KEYS",
            )
        try:
            key = SealingKey(master, masters[master], self._project).open(WRAPPED, name, wrapped)
        except Unreadable:
            raise KeyMissing(
                f"The key {master} of BMAD_ENCRYPTION_KEYS is not the one that this project was encrypted with; the id"
                " alone does not make it.",
                "set the right one",
            ) from None
        return SealingKey(name, key, self._project)
