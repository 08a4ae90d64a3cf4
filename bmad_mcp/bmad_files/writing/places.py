"""Where a document that a tool recorded may be written: among the project's documents, as a document, nowhere else."""

import unicodedata
from collections.abc import Mapping

from bmad_mcp.bmad_files.folder import SKIPPED
from bmad_mcp.bmad_files.places import OUTPUT
from bmad_mcp.bmad_files.values import SourceFile
from bmad_mcp.bmad_files.writing.folder_writer import is_plain
from bmad_mcp.bmad_files.writing.targets import Targets

SUFFIXES = (".md", ".txt", ".csv")
# Assistants read these as instructions wherever they lie: stored text must not become one.
INSTRUCTIONS = frozenset(
    {
        *("claude.md", "claude.local.md", "agents.md", "agents.override.md", "agent.md", "gemini.md", "qwen.md"),
        *("skill.md", "copilot-instructions.md", "warp.md", "crush.md", "replit.md"),
    }
)
# Windows has these as devices, whatever ending they have: who checks the project out there could not.
RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10)}
)
DEFINING = frozenset({"agent", "workflow", "template", "checklist", "task", "data", "team", "skill", "config", "step"})
TOLD = frozenset({"story", "gate", "tracker", "ticket"})


def refused_place(path: str, targets: Targets, files: Mapping[str, SourceFile]) -> str | None:
    """Why a recorded document may not be written at its path; None where it may."""
    parts = path.split("/")
    known = files.get(path)
    if not is_plain(path):
        return "the path does not lead to a plain place inside the folder"
    if any(part.startswith(".") or part in SKIPPED or part in ("", "..") for part in parts):
        return "the path goes through a hidden folder or one of a tool"
    if known is None and any(_is_odd(part) for part in parts):
        return "not every system can have a file of that name"
    if unicodedata.normalize("NFKC", parts[-1]).casefold() in INSTRUCTIONS:
        return "assistants read a file of that name as instructions"
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


def _is_odd(part: str) -> bool:
    return (
        part.partition(".")[0].strip().lower() in RESERVED or part != part.rstrip(" .") or bool({*part} & {*'<>:"|?*'})
    )
