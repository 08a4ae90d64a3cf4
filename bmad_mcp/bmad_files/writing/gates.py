"""The gate of a story: into its own file, key by key, or into a new one."""

from typing import Any

from bmad_mcp.bmad_files.merging import winner
from bmad_mcp.bmad_files.storable import fingerprint
from bmad_mcp.bmad_files.story_rows import StoryRow
from bmad_mcp.bmad_files.writing import yaml_edit
from bmad_mcp.bmad_files.writing.draft import Draft, Record
from bmad_mcp.bmad_files.writing.new_files import gate_text, gate_values
from bmad_mcp.bmad_files.writing.yaml_edit import NotEdited


def export_gate(draft: Draft, key: str, held: Record, row: StoryRow | None, was: Record) -> None:
    """Bring a story's gate into its file; `row` is what the files say of the story, `was` what they said last."""
    ours, theirs = held["row"]["gate"], row.merged["gate"] if row else None
    if not ours or fingerprint(ours) == fingerprint(theirs):
        return
    won = winner(theirs, ours, was.get("fields", {}).get("gate"))
    path = str((theirs or {}).get("file") or "") or draft.targets.gate_path(key, held["row"]["title"])
    if won == "file":
        draft.newer(f"story {key}, gate")
        return
    if won == "nobody":
        mend = f"Decide for one: edit {path}, or call gate_record story={key}."
        draft.refuse("story", key, "gate", (theirs or {}).get("gate"), ours.get("gate"), path, mend)
        return
    before = draft.text(path)
    try:
        if before is None and path in draft.files:
            raise NotEdited("it is not understood")
        after = gate_text(key, held["row"]["title"], ours) if before is None else _gate_edited(before, ours)
    except NotEdited as error:
        mend = "Change it in the file by hand; the database keeps its own until then."
        draft.refuse("story", key, "gate", f"cannot be changed there: {error}", ours.get("gate"), path, mend)
        return
    told = draft.told(key)
    told.fields["gate"] = fingerprint(ours)
    told.paths.add(path)
    if after != before:
        draft.change(path, after, f"gate of story {key}: {ours.get('gate')}")


def _gate_edited(text: str, gate: Record) -> str:
    wanted = gate_values(gate)
    now = yaml_edit.read(text)
    if not wanted["waiver"].get("active") and not (now.get("waiver") or {}).get("active"):
        wanted.pop("waiver")
    changes: dict[tuple[str, ...], Any] = {}
    for name, value in wanted.items():
        if name not in now:
            if value not in ("", [], {}):
                text = yaml_edit.add_value(text, name, value)
        elif yaml_edit.told(now[name]) != yaml_edit.told(value):
            changes[(name,)] = value
    return yaml_edit.set_values(text, changes) if changes else text
