"""Where texts go into the operations of the catalogue, and how one gets there."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from bmad_mcp.catalog import CATALOG
from bmad_mcp.operation import Operation
from bmad_mcp.server.listing import lean

Path = tuple[Any, ...]
# A step of a path: the name of a member that the caller chooses.
NAME = "(name)"


def texts(schema: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths of the texts in a schema of arguments, words of a fixed set among them; 0 is a list's first item."""
    for name, field in schema.get("properties", {}).items():
        for one in field.get("anyOf", [field]):
            yield from _texts(one, (*path, name))


def _texts(schema: Mapping[str, Any], path: Path) -> Iterator[Path]:
    kind = schema.get("type")
    if kind == "string" or "enum" in schema:
        yield path
    elif kind == "array":
        yield from _texts(schema.get("items", {}), (*path, 0))
    elif "properties" in schema:
        yield from texts(schema, path)
    elif kind == "object":
        # Where any name is a member, a template's is used.
        member = schema.get("propertyNames", {}).get("enum", ["role"])[0]
        yield from ((*path, member), (*path, NAME))


FIELDS: tuple[tuple[Operation, Path], ...] = tuple(
    (one, path) for one in CATALOG for path in texts(lean(one.arguments.model_json_schema()))
)


def field_name(operation: Operation, path: Path) -> str:
    """A field as people write it: `task_create.depends_on.0`."""
    return ".".join(map(str, (operation.name, *path)))


def placed(arguments: Mapping[str, Any], path: Path, text: str) -> dict[str, Any]:
    """The arguments with one text in them replaced, or put there."""
    copy: dict[str, Any] = json.loads(json.dumps(arguments))
    at: Any = copy
    for step, following in itertools.pairwise(path):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            at += [empty] * (step + 1 - len(at))
            at = at[step]
        else:
            at = at.setdefault(step, empty)
    if path[-1] == NAME:
        at.clear()
        at[text] = "PASS"
    elif isinstance(path[-1], int):
        at[:1] = [text]
    else:
        at[path[-1]] = text
    return copy
