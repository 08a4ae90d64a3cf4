"""Three-way merge: what the files said at the last import, what they say now, and what the database holds; pure.

Of the last import only hashes are kept, in a row's `extra.imported`: {whole, fields{name: hash}, sections{key: hash},
status}. `whole` is the fingerprint of everything the files told; it is absent while a conflict is open.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bmad_mcp.bmad_files.statuses import RANK
from bmad_mcp.bmad_files.steps import Conflict, Kind
from bmad_mcp.bmad_files.storable import fingerprint
from bmad_mcp.lifecycles import STORY, StoryStatus

Sections = Sequence[Mapping[str, Any]]
SHOWN = 300


@dataclass(slots=True)
class Merge:
    """One row while it is merged: its new values, the hashes to keep, and what cannot be settled."""

    kind: Kind
    key: str
    path: str
    values: dict[str, Any] = field(default_factory=dict)
    imported: dict[str, Any] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)

    def refuse(self, name: str, file: Any, database: Any, mend: str) -> None:
        """Keep a conflict; both sides are shown, cut to what fits a terminal."""
        self.conflicts.append(Conflict(self.kind, self.key, name, _shown(file), _shown(database), self.path, mend))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value if value is not None else "")
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 2] + " …"


def first_import(fields: Mapping[str, Any], sections: Sections, status: str, whole: str | None) -> dict[str, Any]:
    """The hashes to keep of a row that the files alone made."""
    kept: dict[str, Any] = {
        "fields": {name: fingerprint(value) for name, value in fields.items()},
        "status": status,
    }
    if sections:
        kept["sections"] = {key: section_hash(one) for key, one in keyed(sections).items()}
    return kept | ({"whole": whole} if whole else {})


Winner = Literal["same", "file", "database", "nobody"]


def winner(file: Any, database: Any, was: str | None) -> Winner:
    """Whose value counts: that of the side which changed it since the last import."""
    from_file, from_database = fingerprint(file), fingerprint(database)
    if from_file == from_database:
        return "same"
    if was is None:
        return "file" if not database else "database" if not file else "nobody"
    if from_file == was:
        return "database"
    return "file" if from_database == was else "nobody"


def merge_fields(merge: Merge, file: Mapping[str, Any], database: Mapping[str, Any], was: Mapping[str, str]) -> None:
    """Merge plain columns one by one."""
    kept: dict[str, str] = {}
    for name, value in file.items():
        won = winner(value, database[name], was.get(name))
        merge.values[name] = value if won in ("same", "file") else database[name]
        if won != "nobody":
            kept[name] = fingerprint(value)
        else:
            if name in was:
                kept[name] = was[name]
            merge.refuse(name, value, database[name], f"Make both the same: edit the file, or change the {name} here.")
    merge.imported["fields"] = kept


def keyed(sections: Sections) -> dict[str, Mapping[str, Any]]:
    """Sections by their name and how many of that name came before."""
    found: dict[str, Mapping[str, Any]] = {}
    counted: dict[str, int] = {}
    for one in sections:
        name = one["name"]
        counted[name] = counted.get(name, 0) + 1
        found[f"{name}#{counted[name]}"] = one
    return found


def section_hash(section: Mapping[str, Any]) -> str:
    """The hash of a section's level and text; blank lines around the text do not count."""
    return fingerprint([section["level"], section["text"].strip()])


def merge_sections(merge: Merge, file: Sections, database: Sections, was: Mapping[str, str]) -> None:
    """Merge sections one by one; they stand in the order of the file, those of the database where they stood."""
    theirs, ours = keyed(file), keyed(database)
    chosen: dict[str, Mapping[str, Any]] = {}
    kept: dict[str, str] = {}
    for key in [*theirs, *(one for one in ours if one not in theirs)]:
        side, note = _section_winner(theirs.get(key), ours.get(key), was.get(key))
        if side is not None:
            chosen[key] = side
        if note == "conflict":
            _refuse_section(merge, key, theirs.get(key), ours.get(key))
            if key in was:
                kept[key] = was[key]
        elif key in theirs:
            kept[key] = section_hash(theirs[key])
    merge.values["sections"] = [dict(chosen[key]) for key in _in_order(theirs, ours) if key in chosen]
    merge.imported["sections"] = kept


def _section_winner(
    file: Mapping[str, Any] | None, database: Mapping[str, Any] | None, was: str | None
) -> tuple[Mapping[str, Any] | None, Literal["", "conflict"]]:
    from_file = section_hash(file) if file else None
    from_database = section_hash(database) if database else None
    if from_file == from_database:
        return database, ""
    if from_database == was:
        return file, ""
    if from_file == was:
        return database, ""
    return (database, "conflict") if database else (file, "")


def _refuse_section(merge: Merge, key: str, file: Mapping[str, Any] | None, database: Mapping[str, Any] | None) -> None:
    name = key.rsplit("#", 1)[0]
    merge.refuse(
        f"section {name}",
        file if file else "(removed)",
        database,
        f"Bring both texts together, in the file or with story_update story={merge.key} section={name!r}.",
    )


def _in_order(file: Iterable[str], database: Iterable[str]) -> list[str]:
    order, before = list(file), ""
    for key in database:
        if key not in order:
            order.insert(order.index(before) + 1 if before else 0, key)
        before = key
    return order


def merge_status(
    merge: Merge, file: StoryStatus, has_status: bool, database: str, was: str | None, *, is_told: bool = True
) -> None:
    """Merge a status: the file's counts when the moves lead there and nothing done through tools is undone.

    `is_told` is false for a status that was derived; then there is nobody to have a conflict with.
    """
    ours = StoryStatus(database)
    merge.values["status"], merge.imported["status"] = database, was
    if file is ours:
        merge.imported["status"] = file.value
        return
    if not has_status or file.value == was:
        return
    is_untouched = database == was
    if STORY.reaches(ours, file) and (is_untouched or RANK[file] > RANK[ours]):
        merge.values["status"] = merge.imported["status"] = file.value
        return
    if is_told:
        merge.refuse("status", file.value, database, _status_advice(merge, file, ours))


def _status_advice(merge: Merge, file: StoryStatus, ours: StoryStatus) -> str:
    if not STORY.reaches(ours, file):
        return f"{ours.value.capitalize()} is final here: write it into the file, or make a new {merge.kind}."
    if merge.kind == "story":
        return f"Write {ours.value} into the file, or call story_update story={merge.key} status={file.value}."
    return f"Write {ours.value} into the file."
