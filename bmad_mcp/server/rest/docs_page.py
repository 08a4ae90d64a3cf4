"""The page at /docs: the OpenAPI document for people, from this server alone, with a form to try each operation."""

import asyncio
import json
import re
from collections.abc import Iterable
from functools import cached_property
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from bmad_mcp import __version__
from bmad_mcp.catalog import CATALOG
from bmad_mcp.server.page_policy import policy_of
from bmad_mcp.server.rest.openapi import build
from bmad_mcp.server.rest.problems import KINDS, Refusal
from bmad_mcp.server.rest.ways import PREFIX, ways_of

_SOURCE = (Path(__file__).parent / "docs_page.html").read_text(encoding="utf-8")
Json = dict[str, Any]


CONTENT_SECURITY_POLICY = policy_of(_SOURCE)


class DocsPage:
    """The page, rendered at its first request; nothing in it depends on the project."""

    @cached_property
    def html(self) -> str:
        ways = ways_of(CATALOG)
        told = build(ways)
        schemas = told["components"]["schemas"]
        by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in told["tags"]}
        for path, verbs in told["paths"].items():
            for verb, operation in verbs.items():
                by_tag[operation["tags"][0]].append(_operation(verb.upper(), path, operation, schemas))
        return Template(_SOURCE).substitute(
            version=escape(__version__),
            prefix=PREFIX,
            about="\n".join(f"<li>{_marked(line)}</li>" for line in _about(told["info"]["description"])),
            index="\n".join(f'<li><a href="#{tag}">{tag.capitalize()}</a> <span>{len(found)}</span></li>'
                            for tag, found in by_tag.items()),
            sections="\n".join(
                f'<section id="{tag}" aria-labelledby="{tag}-title"><h2 id="{tag}-title">{tag.capitalize()}</h2>'
                f"{''.join(found)}</section>"
                for tag, found in by_tag.items()
            ),
            problems="\n".join(
                f'<tr id="problem-{code}"><td><code>{code}</code></td><td>{status}</td><td>{_marked(words)}</td></tr>'
                for code, (status, words) in KINDS.items()
            ),
            resources="\n".join(
                f"<tr><td><code>{escape(one.resource)}</code></td><td><code>{escape(one.route)}</code></td></tr>"
                for one in CATALOG
                if one.resource
            ),
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = Request(scope).method
        if method in ("GET", "HEAD"):
            page = await asyncio.to_thread(lambda: self.html)
            answer: Response = HTMLResponse(page, headers={"content-security-policy": CONTENT_SECURITY_POLICY})
        elif method == "OPTIONS":
            answer = Response(None, 204, {"allow": "GET, HEAD, OPTIONS"})
        else:
            answer = Refusal(
                405, "method_not_allowed", "This page takes GET.", headers={"allow": "GET, HEAD, OPTIONS"}
            ).response()
        await answer(scope, receive, send)


def _about(text: str) -> Iterable[str]:
    return (" ".join(part.split()) for part in text.split("\n- ")[1:])


def _marked(text: str) -> str:
    """Text with its `code` marked."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _operation(verb: str, path: str, told: Json, schemas: Json) -> str:
    name = told["operationId"]
    parameters = [*told.get("parameters", ()), *_members(told)]
    answers = ", ".join(f"<code>{status}</code>" for status in told["responses"])
    sample: Json = next((answer for status, answer in told["responses"].items() if status in ("200", "201")), {})
    content = sample["content"]["application/json"]
    value = content.get("examples", {}).get("sample", {}).get("value")
    model = schemas[content["schema"]["$ref"].rsplit("/", 1)[1]]
    resource = f"<p>MCP resource: <code>{escape(told['x-mcp-resource'])}</code></p>" if "x-mcp-resource" in told else ""
    return (
        f'<details class="operation" id="{name}"><summary><span class="verb {verb.lower()}">{verb}</span> '
        f'<code>{escape(path)}</code> <span class="what">{_marked(told["summary"])}</span></summary>'
        f'<div class="inside"><p><code>{name}</code>: {_marked(told["description"])}</p>{resource}'
        f"{_arguments(parameters, name)}"
        f"<h3>Answers</h3><p>{answers}. {_marked(model.get('description', ''))}</p>"
        f"{_example(told, value, name)}{_form(verb, path, told, name)}</div></details>"
    )


def _members(told: Json) -> list[Json]:
    """The members of the JSON body, told like parameters."""
    body = told.get("requestBody")
    if body is None:
        return []
    schema = body["content"]["application/json"]["schema"]
    return [
        {"name": name, "in": "body", "required": name in schema.get("required", ()), "schema": member,
         "description": member.get("description", "")}
        for name, member in schema["properties"].items()
    ]  # fmt: skip


def _arguments(parameters: list[Json], name: str) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code>{' <b>required</b>' if one['required'] else ''}</td>"
        f"<td>{one['in']}</td><td>{escape(_type(one['schema']))}</td><td>{_marked(one['description'])}</td></tr>"
        for one in parameters
    )
    return (
        f'<h3>Arguments</h3><div class="wide" tabindex="0" role="region" aria-label="Arguments of {name}"><table>'
        "<thead><tr><th>Name</th><th>In</th><th>Type</th><th>What</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _type(schema: Json) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(one) for one in schema["anyOf"] if one != {"type": "null"})
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = "–".join(str(schema[bound]) for bound in ("minimum", "maximum") if bound in schema)
    return f"{schema.get('type', 'object')} {bounds}".strip()


def _example(told: Json, value: Any, name: str) -> str:
    if value is None:
        return ""
    shown = escape(json.dumps(value, indent=2, ensure_ascii=False), quote=False)
    return f'<h3>Example</h3><pre tabindex="0" role="region" aria-label="Example of {name}"><code>{shown}</code></pre>'


def _form(verb: str, path: str, told: Json, name: str) -> str:
    fields = ""
    for one in told.get("parameters", ()):
        mark = f"{name}-{one['name']}"
        shown = one.get("example", "")
        value = f' value="{escape(shown if isinstance(shown, str) else json.dumps(shown))}"' if shown != "" else ""
        needed = " required" if one["required"] else ""
        fields += (
            f'<p><label for="{mark}">{escape(one["name"])}</label>'
            f'<input id="{mark}" name="{escape(one["name"])}" data-in="{one["in"]}" autocomplete="off"{value}{needed}></p>'
        )
    if "requestBody" in told:
        sample = told["requestBody"]["content"]["application/json"].get("examples", {}).get("sample", {})
        text = escape(json.dumps(sample.get("value", {}), indent=2, ensure_ascii=False), quote=False)
        fields += (
            f'<p><label for="{name}-body">JSON body</label>'
            f'<textarea id="{name}-body" data-in="body" rows="6" spellcheck="false">{text}</textarea></p>'
        )
    warning = "" if verb == "GET" else '<p class="warn">This changes the project that this server serves.</p>'
    return (
        f'<h3>Try it</h3><form data-verb="{verb}" data-path="{escape(path)}">{fields}{warning}'
        f'<p><button type="submit">Send {verb}</button></p>'
        f'<output aria-label="Answer of {name}" aria-live="polite"></output></form>'
    )
