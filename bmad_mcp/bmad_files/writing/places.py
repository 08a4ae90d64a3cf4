"""Where a document that a tool recorded may be written: among the project's documents, as a document, nowhere else."""

from collections.abc import Mapping

from bmad_mcp.bmad_files.folder import SKIPPED
from bmad_mcp.bmad_files.places import OUTPUT
from bmad_mcp.bmad_files.values import SourceFile
from bmad_mcp.bmad_files.writing.targets import Targets

SUFFIXES = (".md", ".txt", ".csv")
# Assistants read these as instructions wherever they lie: stored text must not become one.
INSTRUCTIONS = frozenset({"claude.md", "agents.md", "gemini.md", "skill.md", "copilot-instructions.md"})
DEFINING = frozenset({"agent", "workflow", "template", "checklist", "task", "data", "team", "skill", "config", "step"})


def refused_place(path: str, targets: Targets, files: Mapping[str, SourceFile]) -> str | None:
    """Why a recorded document may not be written at its path; None where it may."""
    parts = path.split("/")
    known = files.get(path)
    if any(part.startswith(".") or part in SKIPPED or part in ("", "..") for part in parts):
        return "the path goes through a hidden folder or one of a tool"
    if parts[-1].lower() in INSTRUCTIONS:
        return "assistants read a file of that name as instructions"
    if known is not None and known.kind in DEFINING:
        return "the file defines an agent or a workflow"
    if not path.lower().endswith(SUFFIXES) and known is None:
        return f"only {', '.join(SUFFIXES)} are written for a recorded document"
    own = (targets.stories, targets.gates, targets.results, targets.epics_folder, "docs", OUTPUT)
    if not any(path.startswith(folder + "/") for folder in own if folder):
        return "the path is not among the project's documents"
    return None
