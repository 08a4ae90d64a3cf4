"""The views for MCP hosts with the Apps extension (SEP-1865): a `ui://` document each, and which tools carry one."""

from collections.abc import Iterable
from functools import cache
from html import escape
from string import Template
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp_types import TextResourceContents, Tool

from bmad_mcp import __version__
from bmad_mcp.server.dashboard.assets import one_script, source_of
from bmad_mcp.server.page_policy import hash_of

EXTENSION = "io.modelcontextprotocol/ui"
MIME_TYPE = "text/html;profile=mcp-app"
TITLES = {
    "ui://bmad/board": "Sprint board",
    "ui://bmad/workflow": "Workflow",
    "ui://bmad/analytics": "Numbers of the project",
}
VIEWS = {
    "project_status": "ui://bmad/board",
    "story_list": "ui://bmad/board",
    "workflow_get": "ui://bmad/workflow",
    "analytics_overview": "ui://bmad/analytics",
}


def may_show(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client shows views, or may: over HTTP without sessions the older protocol does not tell."""
    capabilities = ctx.session.client_capabilities
    if capabilities is None:
        return True
    settings = (capabilities.extensions or {}).get(EXTENSION)
    return settings is not None and MIME_TYPE in (settings.get("mimeTypes") or ())


def with_views(tools: Iterable[Tool]) -> list[Tool]:
    """The tools, those that have a view with its address."""
    return [
        tool.model_copy(update={"meta": {"ui": {"resourceUri": VIEWS[tool.name]}}}) if tool.name in VIEWS else tool
        for tool in tools
    ]


def read(uri: str) -> TextResourceContents | None:
    """The document of a view; None for other addresses."""
    if uri not in TITLES:
        return None
    return TextResourceContents(uri=uri, mime_type=MIME_TYPE, text=document(uri), _meta={"ui": {"prefersBorder": True}})


@cache
def document(uri: str) -> str:
    """A view as one document that loads nothing, and could not: its own policy allows its style and script only."""
    style, script = source_of("style.css"), one_script("app.js")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src {hash_of(style)}",
            f"script-src {hash_of(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return Template(source_of("app.html")).substitute(
        view=uri.rpartition("/")[2],
        version=escape(__version__),
        policy=policy,
        title=escape(TITLES[uri]),
        style=style,
        script=script,
    )
