"""What can be done with templates."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Cursor, DefinitionName, Limit, decode_cursor, encode_cursor
from bmad_mcp.templates import queries
from bmad_mcp.templates.markdown import template_markdown
from bmad_mcp.templates.rendering import names_in, render, render_path, render_text
from bmad_mcp.templates.schemas import Rendered, TemplateBrief, TemplateOut, TemplatePage

VALUES_CAP = 200_000
TEXT_CAP = 500_000
# About 10,000 tokens of English: hosts cut an answer at 25,000.
SHOWN = 40_000
UNUSED_TOLD = 20


async def template_list(
    call: Call,
    kind: Literal["document", "task", "data", "team", "skill"] = "document",
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> TemplatePage:
    """List the templates of documents, or the task guides."""
    (after,) = decode_cursor(cursor, str) if cursor else ("",)
    rows = await call.db.fetch(queries.LIST, kind, after, limit + 1)
    following = encode_cursor(rows[limit - 1]["place"]) if len(rows) > limit else None
    return TemplatePage(items=[TemplateBrief.of(row) for row in rows[:limit]], next_cursor=following)


async def template_get(call: Call, template: DefinitionName) -> TemplateOut:
    """Read a template: its sections with guidance, and the values it takes."""
    row = await _row(call, template)
    sections = _sections(row["body"])
    variables = _rendered(row, {}).missing if row["kind"] == "document" else []
    text = None if sections else row["content"][:SHOWN]
    is_cut = not sections and len(row["content"]) > SHOWN
    return TemplateOut.of(
        row,
        filename=row["body"].get("filename"),
        variables=variables or None,
        sections=sections or None,
        text=text,
        note=f"The first {SHOWN:,} of {len(row['content']):,} characters." if is_cut else None,
    )


async def template_render(
    call: Call,
    template: DefinitionName,
    values: Annotated[
        dict[str, Any],
        Field(
            description="By name, or by a section's id: a text, a list for a list, table or repeatable section,"
            " false to leave it out."
        ),
    ],
) -> Rendered:
    """Make a document from a template; names without a value stay visible; these and unused ones are told."""
    if len(str(values)) > VALUES_CAP:
        raise Invalid(f"`values` is over {VALUES_CAP:,} characters. Render the document in parts.", field="values")
    row = await _row(call, template)
    if row["kind"] != "document":
        raise Invalid(
            f"{row['name']} is a {row['kind']} guide to read with template_get; nothing in it is filled.",
            field="template",
        )
    done = _rendered(row, values)
    known = names_in(row["body"]) | names_in("" if _sections(row["body"]) else row["content"])
    unused = [str(name)[:100] for name in values if name not in known][:UNUSED_TOLD]
    return done.model_copy(update={"unused": unused}) if unused else done


def _rendered(row: Any, values: Mapping[str, Any]) -> Rendered:
    body, form = row["body"], row["body"].get("format") or "markdown"
    if sections := _sections(body):
        markdown, missing = render(body.get("title") or row["title"], sections, values, form)
    else:
        markdown, missing = render_text(row["content"][:TEXT_CAP], values, form)
    if not body.get("filename"):
        return Rendered(markdown=markdown, missing=missing)
    filename, more = render_path(body["filename"], values)
    return Rendered(markdown=markdown, missing=list(dict.fromkeys([*missing, *more])), filename=filename)


def _sections(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = body.get("sections")
    return [section for section in found if isinstance(section, dict)] if isinstance(found, list) else []


async def _row(call: Call, name: str) -> Any:
    stem, _, kind = name.rpartition(".")
    row = await call.db.fetchrow(queries.GET, _names(name), _names(stem), kind)
    if row is None:
        known = ", ".join(await call.db.fetchval(queries.NAMES) or []) or "none"
        raise NotFound(f"There is no template {name!r}. There are: {known}.", field="template")
    return row


def _names(name: str) -> list[str]:
    """The names that may be meant: with and without the ending of a file and `-tmpl`."""
    plain = name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".md")
    bare = plain.removesuffix("-tmpl")
    return list(dict.fromkeys([name, plain, bare, f"{bare}-tmpl"]))


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
