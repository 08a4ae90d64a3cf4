"""Where files, tracker and database disagree, and the command that mends it."""

from collections.abc import Iterable, Mapping
from typing import Any

from bmad_mcp.analytics.schemas import Drift, DriftItem, SyncState
from bmad_mcp.bmad_files.statuses import story_status
from bmad_mcp.told_commands import ANY_FOLDER, on_folder

SHOWN = 80
FIELD_SHOWN = 80


def find_drift(groups: Iterable[Mapping[str, Any]], files: Mapping[str, Any], project: str, most: int) -> Drift:
    """The drift in groups of imported stories with the same words: {file, tracker, status, count, first}.

    A word that is not understood drifts from nothing. The database drifts when its status is neither that of the
    file nor that of the tracker: then it was changed here since the import, and the files are behind. `files` is
    what imports, exports and syncs keep of their folder: {folder, conflicts, conflict_count, sync}. At most `most` groups
    are told, and all are counted.
    """
    export = on_folder("export", str(files.get("folder") or ANY_FOLDER), project)
    items = [_conflict(one) for one in files.get("conflicts") or ()]
    settled = int(files.get("conflict_count") or 0) - len(items)
    for group in groups:
        file, tracker = _meaning(group["file"]), _meaning(group["tracker"])
        known = {one for one in (file, tracker) if one is not None}
        if known and group["status"] not in known:
            items.append(_item("database and files", group, export))
        elif len(known) == 2:
            items.append(_item("file and tracker", group, f"{export} --mend"))
    sync = files.get("sync")
    drift = Drift(count=sum(item.count for item in items) + max(settled, 0), items=items[:most])
    if sync and sync.get("state") != "off":
        drift.sync = SyncState.of({name: sync[name] for name in ("state", "reason", "since") if sync.get(name)})
    return drift


def _conflict(one: Mapping[str, Any]) -> DriftItem:
    return DriftItem(
        between="conflict",
        first=one["key"],
        count=1,
        field=one["field"][:FIELD_SHOWN],
        file=one["file"][:SHOWN],
        database=one["database"][:SHOWN],
        mend=one["mend"],
    )


def _meaning(word: str | None) -> str | None:
    if not word:
        return None
    status, understood = story_status(word)
    return status.value if understood else None


def _item(between: str, group: Mapping[str, Any], mend: str) -> DriftItem:
    return DriftItem.of(group, between=between, database=group["status"], mend=mend)
