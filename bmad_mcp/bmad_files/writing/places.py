"""Where a document that a tool recorded may be written: among the project's documents, as a document, nowhere else."""

from collections.abc import Mapping

from bmad_mcp.artifacts.places import never_written
from bmad_mcp.bmad_files.places import OUTPUT
from bmad_mcp.bmad_files.values import SourceFile
from bmad_mcp.bmad_files.writing.targets import Targets

SUFFIXES = (".md", ".txt", ".csv")
DEFINING = frozenset({"agent", "workflow", "template", "checklist", "task", "data", "team", "skill", "config", "step"})
TOLD = frozenset({"story", "gate", "tracker", "ticket"})


def refused_place(path: str, targets: Targets, files: Mapping[str, SourceFile]) -> str | None:
    """Why a recorded document may not be written at its path; None where it may."""
    known = files.get(path)
    if reason := never_written(path, is_there=known is not None):
        return reason
    if known is not None and known.kind in DEFINING:
        return "the file defines an agent or a workflow"
    if known is not None and known.kind in TOLD:
        return "the file tells a story, a gate or a tracker, and its own tools write it"
    if not path.lower().endswith(SUFFIXES) and known is None:
        return f"only {', '.join(SUFFIXES)} are written for a recorded document"
    own = (targets.stories, targets.gates, targets.results, targets.epics_folder, "docs", OUTPUT)
    if not any(path.startswith(folder + "/") for folder in own if folder):
        return "the path is not among the project's documents"
    return None
