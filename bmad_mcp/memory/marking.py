"""What search finds of an encrypted memory: marks of its words and names, which only the project's key makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bmad_mcp.db import Transaction
from bmad_mcp.encryption import columns
from bmad_mcp.memory import queries
from bmad_mcp.memory.identifiers import identifiers_of

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault


@dataclass(frozen=True, slots=True)
class Kept:
    """A memory's text as it is stored, with what finds it; without a `search` PostgreSQL takes the words of the text."""

    text: str
    identifiers: list[str]
    search: str | None = None
    mark: str | None = None


async def as_kept(db: Transaction, memories: Mapping[str, str]) -> list[Kept]:
    """These texts, by the ids of their memories, as they are to be stored."""
    if db.vault is None:
        return [Kept(text, identifiers_of(text)) for text in memories.values()]
    await db.vault.keep_fresh(db)
    key = db.vault.in_use
    return [
        Kept(
            key.seal(columns.MEMORY, ref, text.encode()),
            [key.mark("name", name) for name in identifiers_of(text)],
            _vector([(key.mark("word", word), places) for word, places in words]),
            key.mark("text", text),
        )
        for (ref, text), words in zip(memories.items(), await _words(db, list(memories.values())), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the database is asked it, and what each mark in it stands for."""

    text: str
    identifiers: list[str]
    meant: dict[str, str] = field(default_factory=dict)

    def plain(self, row: Any) -> dict[str, Any]:
        """A row with the words and names that matched instead of their marks."""
        return {
            **row,
            "words": [self.meant.get(one, one) for one in row["words"]],
            "names": sorted(self.meant.get(one, one) for one in row["names"]),
        }


async def as_asked(db: Transaction, vault: "Vault", text: str) -> Asked:
    """A question in marks of every key, and in words for what is not encrypted yet."""
    await vault.keep_fresh(db)
    (words,) = await _words(db, [text])
    vector, names, meant = list(words), list[str](), dict[str, str]()
    for word, places in words:
        for mark in vault.marks("word", word):
            vector.append((mark, places))
            meant[mark] = word
    for name in identifiers_of(text):
        names += [name, *(marks := vault.marks("name", name))]
        meant.update(dict.fromkeys(marks, name))
    return Asked(_vector(vector), names, meant)


async def _words(db: Transaction, texts: Sequence[str]) -> list[list[tuple[str, list[int]]]]:
    """The words of each text, as PostgreSQL's search has them, with their places."""
    found: list[list[tuple[str, list[int]]]] = [[] for _ in texts]
    for row in await db.fetch(queries.LEXEMES, list(texts)):
        found[row["number"] - 1].append((row["lexeme"], row["positions"] or []))
    return found


def _vector(words: Sequence[tuple[str, Sequence[int]]]) -> str:
    """The text of a tsvector."""
    return " ".join(
        f"{_quoted(word)}:{','.join(map(str, places))}" if places else _quoted(word) for word, places in words
    )


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
