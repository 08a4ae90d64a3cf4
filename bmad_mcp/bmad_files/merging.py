"""Three-way merge: what the files said at the last import, what they say now, and what the database holds; pure.

Of the last import only hashes are kept, in a row's `extra.imported`: {whole, fields{name: hash}, sections{name: hash},
status}. `whole` is the fingerprint of everything the files told; it is absent while a conflict is open.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
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
        self.conflicts.append(Conflict(self.kind, self.key, name, shown(file), shown(database), self.path, mend))


def shown(value: Any) -> str:
    """A value on one line, cut to what fits a terminal."""
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
        kept["sections"] = {name: group_hash(group) for name, group in grouped(sections).items()}
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


def grouped(sections: Sections) -> dict[str, list[Mapping[str, Any]]]:
    """Sections by their name; several of one name are merged as one, for nothing else tells them apart."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in sections:
        found.setdefault(one["name"], []).append(one)
    return found


def group_hash(group: Sections | None) -> str | None:
    """The hash of the levels and texts; blank lines around a text and the kind of line ends do not count."""
    return fingerprint([[one["level"], one["text"].replace("\r\n", "\n").strip()] for one in group]) if group else None


def merge_sections(merge: Merge, file: Sections, database: Sections, was: Mapping[str, str]) -> None:
    """Merge sections name by name; they stand in the order of the file, those of the database where they stood."""
    theirs, ours = grouped(file), grouped(database)
    chosen: dict[str, Sections] = {}
    kept: dict[str, str] = {}
    for name in [*theirs, *sorted(ours.keys() - theirs.keys())]:
        won = section_winner(group_hash(theirs.get(name)), group_hash(ours.get(name)), was.get(name))
        chosen[name] = (theirs if won == "file" else ours).get(name, ())
        if won == "nobody":
            _refuse_section(merge, name, theirs.get(name), ours[name])
            if name in was:
                kept[name] = was[name]
        elif (now := group_hash(theirs.get(name))) is not None:
            kept[name] = now
    merge.values["sections"] = _in_order(file, database, chosen)
    merge.imported["sections"] = kept


def section_winner(file: str | None, database: str | None, was: str | None) -> Winner:
    """Whose sections of a name count, by their hashes; None where a side has none."""
    if file == database:
        return "same"
    if database == was:
        return "file"
    if file == was:
        return "database"
    # What the tools removed and the file has edited since is worth having.
    return "nobody" if database is not None else "file"


def _refuse_section(merge: Merge, name: str, file: Sections | None, database: Sections) -> None:
    merge.refuse(
        f"section {name}",
        [one["text"] for one in file] if file else "(removed)",
        [one["text"] for one in database],
        f"Bring both texts together, in the file or with story_update story={merge.key} section={name!r}.",
    )


def _in_order(file: Sections, database: Sections, chosen: Mapping[str, Sections]) -> list[dict[str, Any]]:
    """The chosen sections where the file has that name; a name that it lacks follows the one it followed before.

    What the file has just put deeper under that one stays there; sections of one name stand side by side. Where the
    database has them all in the file's order already, they stay as they stand.
    """
    known, levels = {one["name"] for one in database}, {one["name"]: one["level"] for one in [*database, *file]}
    order: list[str] = []
    for name in (one["name"] for one in file):
        if order.count(name) < len(chosen[name]):
            order.append(name)
    for name in dict.fromkeys(order):
        at = _after_last(order, name)
        order[at:at] = [name] * (len(chosen[name]) - order.count(name))
    here = [one["name"] for one in database]
    has_all = Counter(here) == Counter({name: len(group) for name, group in chosen.items()})
    if has_all and [name for name in here if name in order] == order:
        order = here
    for name in dict.fromkeys(name for name in here if name not in order):
        at = _after_last(order, _previous(database, name, order))
        while at and at < len(order) and order[at] not in known and levels[order[at]] > levels[name]:
            at += 1
        order[at:at] = [name] * len(chosen[name])
    left = {name: list(group) for name, group in chosen.items()}
    return [dict(left[name].pop(0)) for name in order]


def _previous(sections: Sections, name: str, order: Sequence[str]) -> str | None:
    """The nearest name before the first of this one that has a place in the order."""
    before = None
    for one in sections:
        if one["name"] == name:
            break
        if one["name"] in order:
            before = one["name"]
    return before


def _after_last(order: Sequence[str], name: str | None) -> int:
    return max((at + 1 for at, one in enumerate(order) if one == name), default=0)


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
    if STORY.reaches(ours, file) and (is_untouched or is_further(file, ours)):
        merge.values["status"] = merge.imported["status"] = file.value
        return
    if is_told:
        merge.refuse("status", file.value, database, _status_advice(merge, file, ours))


def is_further(file: StoryStatus, ours: StoryStatus) -> bool:
    """Whether the file's status goes on from ours; what was cancelled here is not taken up again silently."""
    return ours is not StoryStatus.CANCELLED and RANK[file] > RANK[ours]


def _status_advice(merge: Merge, file: StoryStatus, ours: StoryStatus) -> str:
    if not STORY.reaches(ours, file):
        return f"{ours.value.capitalize()} is final here: write it into the file, or make a new {merge.kind}."
    if merge.kind == "story":
        return f"Write {ours.value} into the file, or call story_update story={merge.key} status={file.value}."
    return f"Write {ours.value} into the file."
