"""Finds and reads the files of another tool: inside one folder, capped, and never with more trust than they earn."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.values import SourceFile
from bmad_mcp.bmad_files.yaml_guard import DEPTH_CAP, storable
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.interchange.values import Item, Original

ITEM_LIMIT = 20_000


class Refused(Exception):
    """A text is not taken; the message says why."""


class Place:
    """Where a tool keeps its files: a folder, and what was read of it."""

    def __init__(self, folder: Folder, deviations: Deviations, named: str | None) -> None:
        self.folder, self.deviations, self.named = folder, deviations, named
        self.originals: list[Original] = []
        self.is_whole = True

    def find(self, candidates: Sequence[str]) -> str | None:
        """The first of these paths that exists, also when it cannot be read; the file that was named, if one was."""
        if self.named is not None:
            return self.named
        return next((one for one in candidates if os.path.lexists(self.folder.root / one)), None)

    def read(self, path: str, name: str, kind: str = "tracker") -> SourceFile | None:
        """A file, kept byte for byte under `name`; None, with a deviation, when it cannot be read at all."""
        real = self.folder.locate(path)
        if real is None:
            self.is_whole = False
            if not self.deviations.all():
                self.note(
                    path, None, "unreadable", "This is no plain file inside the folder.", "Put the file itself there."
                )
            return None
        source = self.folder.read(real, "project", kind)
        if source is None or source.text is None:
            self.is_whole = False
        if source is not None:
            self.originals.append(Original(name, source.raw, kind))
        return source

    def note(self, path: str, line: int | None, code: str, message: str, mend: str) -> None:
        """Keep a deviation."""
        self.deviations.add(path, line, code, message, mend)

    def break_off(self, path: str, line: int | None, code: str, message: str, mend: str) -> None:
        """Keep a deviation for which something was not read."""
        self.is_whole = False
        self.note(path, line, code, message, mend)

    def json(self, text: str, path: str, line: int | None = None) -> Any:
        """A JSON text as plain values; raises Refused."""
        return storable(load_json(text), path, self.deviations)


@contextmanager
def opened_place(path: Path, *, wants: str) -> Iterator[Place]:
    """The folder at a path, or the one around the file at it; raises NotFound when nothing is there."""
    deviations = Deviations()
    target = path.expanduser()
    if not os.path.lexists(target):
        raise NotFound(f"There is nothing at {str(path)!r}. Give {wants}.", field="path")
    is_folder = target.is_dir()
    folder = Folder(target if is_folder else target.parent, deviations)
    try:
        yield Place(folder, deviations, None if is_folder else target.name)
    finally:
        folder.close()


def nothing_found(path: Path, tool: str, looked_for: Sequence[str]) -> Invalid:
    """The refusal of a path that holds nothing of the tool."""
    listed = ", ".join(looked_for)
    return Invalid(
        f"{str(path)!r} holds nothing of {tool}. Looked for: {listed}. Give the project's folder, or the file itself.",
        field="path",
    )


def load_json(text: str) -> Any:
    """JSON with numbers that have a point kept as the words they are, so that `1.10` is not `1.1`; raises Refused."""
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_float=str, parse_constant=str)
    except RecursionError as error:
        raise Refused("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise Refused(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:
        raise Refused(str(error).split(";")[0]) from error
    if _is_deep(value):
        raise Refused(f"it is nested more than {DEPTH_CAP} deep")
    return value


def _is_deep(value: Any) -> bool:
    below = [value]
    for _ in range(DEPTH_CAP + 1):
        below = [
            one
            for outer in below
            for one in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not below:
            return False
    return True


def text_at(record: dict[str, Any], name: str) -> str:
    """A field as text; a number as its digits, anything else as JSON."""
    value = record.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False)


def texts_at(record: dict[str, Any], name: str) -> tuple[str, ...]:
    """A field as a list of short texts; a single text counts as a list of one."""
    value = record.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(str(one).strip() for one in values if isinstance(one, str | int) and str(one).strip())


def settled(items: Sequence[Item], place: Place) -> tuple[Item, ...]:
    """The items within the limit, each ref once: of two with the same ref the first counts, and the other is told."""
    kept: dict[str, Item] = {}
    for item in items:
        if item.ref in kept:
            message = f"The id {shown(item.ref)} is there twice; the first one counts."
            place.note(item.path, None, "id-twice", message, "Give one of them an id of its own.")
        elif len(kept) >= ITEM_LIMIT:
            message = f"There are more than {ITEM_LIMIT:,} items; the rest was left out."
            place.break_off(item.path, None, "too-many-items", message, "Import a part of the board.")
            break
        else:
            kept[item.ref] = item
    return tuple(kept.values())
