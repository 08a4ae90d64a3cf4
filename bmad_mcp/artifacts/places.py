"""Which paths a recorded document may never be written to, in whatever project: stored text must not become a program."""

import unicodedata

PATH_LIMIT = 1_000
NAME_LIMIT = 255
# Folders of tools, which a project's documents are never in.
SKIPPED = frozenset(
    {
        *("node_modules", "bower_components", "vendor", "site-packages", "venv", "env", "__pycache__"),
        *("dist", "build", "out", "target", "coverage"),
    }
)
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


def never_written(path: str, *, is_there: bool = False) -> str | None:
    """Why no document is ever written at a path; None where one may be. `is_there`: the project has such a file."""
    parts = path.split("/")
    if not is_plain(path):
        return "the path does not lead to a plain place inside the folder"
    if any(part.startswith(".") or part in SKIPPED or part in ("", "..") for part in parts):
        return "the path goes through a hidden folder or one of a tool"
    if not is_there and any(_is_odd(part) for part in parts):
        return "not every system can have a file of that name"
    if unicodedata.normalize("NFKC", parts[-1]).casefold() in INSTRUCTIONS:
        return "assistants read a file of that name as instructions"
    return None


def is_plain(path: str) -> bool:
    """Whether a path leads to a place inside the folder on every system, and shows as what it is."""
    parts = path.split("/")
    return (
        len(path) <= PATH_LIMIT
        and "\\" not in path
        and path.isprintable()
        and all(part not in ("", ".", "..") and len(part.encode()) <= NAME_LIMIT for part in parts)
        and not any(unicodedata.normalize("NFKC", part).casefold() in (".git", ".hg", ".svn") for part in parts)
        and not (len(parts[0]) == 2 and parts[0][1] == ":")
    )


def _is_odd(part: str) -> bool:
    return (
        part.partition(".")[0].strip().lower() in RESERVED or part != part.rstrip(" .") or bool({*part} & {*'<>:"|?*'})
    )
