"""Where the words of files, tracker and database disagree about a story."""

from collections.abc import Iterable, Mapping
from typing import Any

from bmad_mcp.analytics.schemas import Drift, DriftItem
from bmad_mcp.bmad_files.statuses import story_status

ITEMS_SHOWN = 5


def find_drift(groups: Iterable[Mapping[str, Any]]) -> Drift:
    """The drift in groups of imported stories with the same words: {file, tracker, status, count, first}.

    A word that is not understood drifts from nothing. The database drifts when its status is neither that of the
    file nor that of the tracker: then it was changed here since the import, and the files are behind.
    """
    items = []
    for group in groups:
        file, tracker = _meaning(group["file"]), _meaning(group["tracker"])
        known = {one for one in (file, tracker) if one is not None}
        if known and group["status"] not in known:
            items.append(_item("database and files", group))
        elif len(known) == 2:
            items.append(_item("file and tracker", group))
    return Drift(count=sum(item.count for item in items), items=items[:ITEMS_SHOWN])


def _meaning(word: str | None) -> str | None:
    if not word:
        return None
    status, understood = story_status(word)
    return status.value if understood else None


def _item(between: str, group: Mapping[str, Any]) -> DriftItem:
    return DriftItem.of(group, between=between, database=group["status"])
