"""What an export wrote into a file that also has edits of its own: only that is agreed, the rest waits; pure."""

from collections.abc import Mapping
from typing import Any

from bmad_mcp.bmad_files.merging import Merge, group_hash, grouped, merge_fields, merge_sections, merge_status
from bmad_mcp.bmad_files.rows import Written
from bmad_mcp.bmad_files.story_rows import EpicRow, StoryRow

Record = Mapping[str, Any]


def written_story(row: StoryRow, was: Record, before: Record, written: Written) -> dict[str, Any]:
    """The columns of a story afterwards; `was` is what was agreed on before."""
    merge = Merge("story", row.key, row.path or "")
    ours = {name: group_hash(group) for name, group in grouped(before["sections"]).items()}
    agreed = dict(was.get("sections", {}))
    known = {name: agreed.get(name) if name in written.sections else one for name, one in ours.items()}
    file = _written_sections(row, before, written)
    merge_sections(merge, file, before["sections"], {name: one for name, one in known.items() if one is not None})
    sections = {name: one for name, one in merge.imported["sections"].items() if name in written.sections}
    left = {name: one for name, one in agreed.items() if name not in written.sections}
    values = {**_merged(merge, row, before, was, written), "sections": merge.values["sections"]}
    imported = {name: value for name, value in merge.imported.items() if value is not None}
    imported["sections"] = left | sections
    words = row.mirrored if written.status else before
    is_new = before["source_path"] != row.path
    return {
        **values,
        **{name: words[name] for name in ("raw_status", "tracker_key", "tracker_status")},
        "source_path": row.path,
        "content_hash": before["content_hash"],
        "extra": {**before["extra"], **(row.extra if is_new else {}), "imported": imported},
    }


def written_epic(row: EpicRow, known: Record, written: Written) -> dict[str, Any]:
    """The columns of an epic afterwards."""
    merge = Merge("epic", row.key, row.path or "")
    values = _merged(merge, row, known, known["extra"].get("imported", {}), written)
    imported = {name: value for name, value in merge.imported.items() if value is not None}
    return {
        **values,
        "raw_status": row.mirrored["raw_status"] if written.status else known["raw_status"],
        "source_path": known["source_path"] or row.path,
        "extra": {**known["extra"], "imported": imported},
    }


def _merged(merge: Merge, row: StoryRow | EpicRow, before: Record, was: Record, written: Written) -> dict[str, Any]:
    fields = was.get("fields", {})
    merge_fields(merge, {name: row.merged[name] for name in row.merged if name in written.fields}, before, fields)
    merge.imported["fields"] = dict(fields) | merge.imported["fields"]
    if written.status:
        merge_status(merge, row.status, row.has_status, before["status"], was.get("status"))
    else:
        merge.values["status"], merge.imported["status"] = before["status"], was.get("status")
    return {name: before[name] for name in row.merged} | merge.values


def _written_sections(row: StoryRow, before: Record, written: Written) -> list[Mapping[str, Any]]:
    """The sections that the database has, those that were written as the file has them."""
    theirs, ours = grouped(row.sections), grouped(before["sections"])
    told: list[Mapping[str, Any]] = []
    for name in ours:
        told += theirs.get(name, []) if name in written.sections else ours[name]
    behind = None
    for name in theirs:
        if name in ours:
            behind = name
        elif name in written.sections:
            # A heading within a text that was written is a section of its own in the file.
            at = max((place + 1 for place, one in enumerate(told) if one["name"] == behind), default=len(told))
            told[at:at] = theirs[name]
            behind = name
    return told
