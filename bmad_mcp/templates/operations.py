"""What can be done with templates."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Cursor, DefinitionName, Limit, decode_cursor, encode_cursor
from bmad_mcp.templates import queries
from bmad_mcp.templates.markdown import render, template_markdown
from bmad_mcp.templates.schemas import Rendered, TemplateBrief, TemplateOut, TemplatePage

VALUES_CAP = 200_000


async def template_list(
    call: Call,
    kind: Literal["document", "task", "data", "team", "skill"] = "document",
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> TemplatePage:
    """List the templates of documents, or the task guides."""
    (after,) = decode_cursor(cursor, str) if cursor else ("",)
    rows = await call.db.fetch(queries.LIST, kind, after, limit + 1)
    following = encode_cursor(rows[limit - 1]["name"]) if len(rows) > limit else None
    return TemplatePage(items=[TemplateBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def template_get(call: Call, template: DefinitionName) -> TemplateOut:
    """Read a template: its sections with guidance, and the values it takes."""
    row = await _row(call, template)
    body = row["body"]
    sections = body.get("sections")
    return TemplateOut.of(
        row,
        filename=body.get("filename"),
        variables=list(body.get("variables") or ()) or None,
        sections=list(sections) if sections else None,
        text=None if sections else row["content"],
    )


async def template_render(
    call: Call,
    template: DefinitionName,
    values: Annotated[
        dict[str, Any], Field(description="Value by name; a list for a repeatable section or a table, by its id.")
    ],
) -> Rendered:
    """Make a document from a template; names without a value stay visible and are told."""
    if len(str(values)) > VALUES_CAP:
        raise Invalid(f"`values` is over {VALUES_CAP:,} characters. Render the document in parts.", field="values")
    row = await _row(call, template)
    body = row["body"]
    if not body.get("sections"):
        raise Invalid(f"{template} is a text without sections, so there is nothing to fill. Read it with template_get.")
    markdown, missing = render(_title(body) or row["title"], body["sections"], values)
    filename = body.get("filename")
    return Rendered(markdown=markdown, missing=missing, **({"filename": filename} if filename else {}))


def _title(body: dict[str, Any]) -> str:
    head = body.get("template")
    output = head.get("output") if isinstance(head, dict) else None
    return str(output.get("title") or "") if isinstance(output, dict) else ""


async def _row(call: Call, name: str) -> Any:
    bare = name.removesuffix(".yaml").removesuffix(".md").removesuffix("-tmpl")
    row = await call.db.fetchrow(queries.GET, list(dict.fromkeys([name, bare, f"{bare}-tmpl"])))
    if row is None:
        known = ", ".join(await call.db.fetchval(queries.NAMES) or []) or "none"
        raise NotFound(f"There is no template {name!r}. There are: {known}.", field="template")
    return row


OPERATIONS = (
    Operation(template_list, "GET /templates", toolset="planning"),
    Operation(
        template_get,
        "GET /templates/{template}",
        toolset="planning",
        resource="bmad://templates/{template}",
        markdown=template_markdown,
    ),
    Operation(template_render, "POST /templates/{template}/render", toolset="planning"),
)
