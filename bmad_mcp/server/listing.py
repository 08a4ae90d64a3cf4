"""What tools/list shows of an operation: lean schemas, because every model that connects pays for them."""

from typing import Any

from mcp_types import Tool, ToolAnnotations

from bmad_mcp.operation import Operation

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
