"""What tools/list shows of an operation: lean schemas, because every model that connects pays for them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcp_types import Tool, ToolAnnotations
from pydantic_core import from_json

from bmad_mcp.operation import Operation

# One tool a line, as `as_tool` makes it: making them builds the schemas of all operations, a tenth of a start.
MADE = Path(__file__).with_name("tools.jsonl")
# Checked by the server all the same; a model gains nothing from reading them.
_UNTOLD = frozenset(
    {"title", "maxLength", "minLength", "pattern", "additionalProperties", "maxItems", "minItems", "default"}
)


def lean(schema: Any, definitions: dict[str, Any] | None = None) -> Any:
    """A JSON schema without titles, null alternatives and length limits, its references put in place."""
    if isinstance(schema, list):
        return [lean(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    definitions = schema.get("$defs", definitions or {})
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return lean({**target, **{name: value for name, value in schema.items() if name != "$ref"}}, definitions)
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        rest = {name: value for name, value in schema.items() if name != "anyOf"}
        return lean({**choices[0], **rest}, definitions)
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            kept[name] = {field: lean(value, definitions) for field, value in value.items()}
        elif name not in _UNTOLD and name != "$defs":
            kept[name] = lean(value, definitions)
    if "enum" in kept:
        kept.pop("type", None)
    return kept


def output_schema(operation: Operation) -> dict[str, Any]:
    """The schema of the structured result; nulls stay, as some fields are told as null."""
    schema = operation.result.model_json_schema()
    told: dict[str, Any] = _without(schema, {"title", "additionalProperties", "description"})
    return told


def _without(schema: Any, names: set[str]) -> Any:
    if isinstance(schema, list):
        return [_without(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {field: _without(item, names) for field, item in value.items()}
        if name in ("properties", "$defs")
        else _without(value, names)
        for name, value in schema.items()
        if name not in names or name in ("properties", "$defs")
    }


def as_tool(operation: Operation) -> Tool:
    """The operation as tools/list tells it."""
    reads = operation.scope == "read"
    return Tool(
        name=operation.name,
        title=operation.title,
        description=operation.description,
        input_schema={"type": "object", **lean(operation.arguments.model_json_schema())},
        output_schema=output_schema(operation),
        annotations=ToolAnnotations(
            title=operation.title,
            read_only_hint=reads,
            destructive_hint=operation.verb == "DELETE",
            idempotent_hint=reads,
            open_world_hint=False,
        ),
    )


def as_line(operation: Operation) -> str:
    """The operation's line in MADE."""
    return as_tool(operation).model_dump_json(by_alias=True, exclude_none=True) + "\n"


def listed(operations: Iterable[Operation]) -> list[Tool]:
    """What tools/list shows of these; one that MADE has no line of yet is made from its code."""
    made = {}
    for line in MADE.read_bytes().splitlines():
        told = from_json(line)
        made[told["name"]] = told
    return [Tool.model_validate(made[one.name]) if one.name in made else as_tool(one) for one in operations]
