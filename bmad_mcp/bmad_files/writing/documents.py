"""Documents that tools recorded and runs of checklists: files of their own among the project's documents."""

import re

from bmad_mcp.bmad_files.writing.draft import Draft, Told
from bmad_mcp.bmad_files.writing.places import refused_place
from bmad_mcp.bmad_files.writing.run_files import run_path, run_text

_RETROSPECTIVE = re.compile(r"epic-([0-9]{1,6})-retro(?:spective)?(?:-[\w.-]*)?\.md", re.IGNORECASE)
_ELSEWHERE = "Record the document under a path among the project's documents, such as docs/notes.md."


def export_documents(draft: Draft) -> None:
    """Write the documents that tools recorded or changed."""
    # What was recorded once more, under a path that is written, is told no longer.
    elsewhere = {
        held["content_hash"]
        for path, held in draft.held.artifacts.items()
        if refused_place(path, draft.targets, draft.files) is None
    }
    for path, held in draft.held.artifacts.items():
        file = draft.files.get(path)
        ours, before = held["content_hash"], held["file_hash"]
        theirs = file.sha256 if file else None
        if held["is_empty"] or not ours or held["encoding"] != "utf-8" or ours == theirs:
            continue
        if held["source"] == "import" and (before or ours) == ours:
            continue
        if (reason := refused_place(path, draft.targets, draft.files)) and file is not None:
            draft.refuse("file", path, "content", reason, f"recorded as A-{held['number']}", path, _ELSEWHERE)
        elif reason:
            if ours not in elsewhere:
                draft.plan.unwritten.append(f"{path} (A-{held['number']}): {reason}")
        elif theirs is None and before:
            draft.plan.gone.append(f"file {path}")
        elif theirs is not None and theirs != before:
            mend = (
                f"Bring both together: artifact_get artifact=A-{held['number']} shows the one here;"
                " write it to the file, then import."
            )
            shown = (f"sha256 {theirs[:12]}", f"sha256 {ours[:12]}, recorded as A-{held['number']}")
            draft.refuse("file", path, "content", *shown, path, mend)
        else:
            draft.change(path, held["content"], f"document A-{held['number']}")
            draft.plan.documents.add(path)
            _retrospective(draft, path)


def _retrospective(draft: Draft, path: str) -> None:
    """A retrospective that was held is marked in the tracker."""
    match = _RETROSPECTIVE.fullmatch(path.rpartition("/")[2])
    tracker = draft.trackers.counting.get(f"epic-{int(match[1])}-retrospective") if match else None
    if match is None or tracker is None:
        return
    entry = next(one for one in tracker.entries if one.key == f"epic-{int(match[1])}-retrospective")
    if entry.raw_status != "done":
        draft.trackers.set(entry.key, "done", f"the retrospective of epic {match[1]} was held")
        draft.plan.epics.setdefault(str(int(match[1])), Told()).paths.add(tracker.path)


def export_runs(draft: Draft) -> None:
    """Write a file for each run of a checklist that has none."""
    for checklist in draft.held.checklists:
        for run in checklist["runs"]:
            path = run_path(draft.targets.results, checklist["name"], run)
            if path not in draft.files and path not in draft.held.artifacts and path not in draft.plan.changes:
                draft.change(path, run_text(checklist, run), f"checklist {checklist['name']} on {run['subject']}")
                draft.plan.documents.add(path)
