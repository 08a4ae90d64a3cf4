"""The files of the dashboard and of the views in MCP hosts; two modules of them are made from the tables in Python."""

import json
import re
from functools import cache
from pathlib import Path

from bmad_mcp.catalog import CATALOG
from bmad_mcp.lifecycles import STORY_MOVES, StoryStatus
from bmad_mcp.memory.categories import MemoryCategory

FOLDER = Path(__file__).parent / "static"
# Where the browser finds them; they hold nothing of a project.
PREFIX = "/dashboard/"
MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:(async function|function|class|const) (\w+))", re.MULTILINE)


@cache
def source_of(name: str) -> str:
    """The text of a file."""
    if name in MADE:
        return MADE[name]
    return (FOLDER / name).read_text(encoding="utf-8")


def _vocabulary() -> str:
    moves = {status: [target for target in StoryStatus if target in STORY_MOVES[status]] for status in StoryStatus}
    return (
        "// The words that the server uses: statuses of a story, the moves between them, categories of memories.\n"
        f"export const STORY_STATUSES = {json.dumps(list(StoryStatus))};\n"
        f"export const STORY_MOVES = {json.dumps(moves)};\n"
        f"export const MEMORY_CATEGORIES = {json.dumps(list(MemoryCategory))};\n"
    )


def _routes() -> str:
    routes = {operation.name: operation.route for operation in CATALOG}
    return f"// Where each operation is over REST.\nexport const ROUTES = {json.dumps(routes, indent=1, sort_keys=True)};\n"


MADE = {"vocabulary.js": _vocabulary(), "routes.js": _routes()}
NAMES = (*sorted(path.name for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES), *MADE)


def imports_of(name: str) -> tuple[str, ...]:
    """The modules that a module imports."""
    return tuple(found[1] for found in _IMPORT.findall(source_of(name)))


def modules_of(entry: str) -> tuple[str, ...]:
    """A module and all that it needs, each after what it imports."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        for needed in imports_of(name):
            if needed not in found:
                add(needed)
        found[name] = None

    add(entry)
    return tuple(found)


def one_script(entry: str) -> str:
    """A module and all that it needs as one classic script, for documents that can load nothing.

    Each module becomes a function that gives what it exports, so that no two names meet.
    """
    parts = [_as_function(name) for name in modules_of(entry)]
    return '"use strict";\nconst modules = {};\n' + "\n".join(parts)


def _as_function(name: str) -> str:
    source = source_of(name)
    exported = [found[1] for found in _EXPORT.findall(source)]
    body = _IMPORT.sub(lambda found: f"const {{{found[1]}}} = modules[{json.dumps(found[2])}];\n", source)
    body = _EXPORT.sub(r"\1 \2", body)
    return f"modules[{json.dumps(name)}] = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();"
