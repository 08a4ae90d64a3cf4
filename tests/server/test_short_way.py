"""A tool call that our middleware answers itself is what the SDK would make of it."""

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from mcp.server.connection import Connection
from mcp.server.runner import serve_one
from mcp.shared.exceptions import MCPError
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from bmad_mcp.call import Caller
from bmad_mcp.server.mcp import McpFace

CLIENT = {"name": "test", "version": "1"}
READS: tuple[Any, ...] = (
    {"name": "task_get", "arguments": {"task": "T-1"}},
    {"name": "task_get", "arguments": {"task": "T-99"}},
    {"name": "task_get", "arguments": {"tusk": "T-1"}},
    {"name": "task_list", "arguments": {"limit": 1}},
    {"name": "task_list", "arguments": {"limit": 100}},
    {"name": "agent_list"},
    {"name": "agent_list", "arguments": None},
    {"name": "handoff_list"},
    {"name": "no_such_tool", "arguments": {}},
    {"name": "memory_related", "arguments": {"memory": "x"}},
    {"name": 7},
    {"arguments": {}},
    {"name": "task_get", "arguments": []},
    None,
)


@dataclass
class Asked:
    """What the SDK's dispatcher knows of a request."""

    transport: TransportContext = field(default_factory=lambda: TransportContext(kind="test", can_send_request=False))
    request_id: int = 1
    message_metadata: None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)


def enveloped(params: Any, version: str) -> Any:
    """Versions without a handshake name themselves in each request."""
    if version not in MODERN_PROTOCOL_VERSIONS:
        return params
    envelope = {PROTOCOL_VERSION_META_KEY: version, CLIENT_INFO_META_KEY: CLIENT, CLIENT_CAPABILITIES_META_KEY: {}}
    return {**(params or {}), "_meta": envelope}


async def answer(server: Any, params: Any, version: str) -> Any:
    connection = Connection.from_envelope(version, CLIENT, {})
    try:
        result = await serve_one(
            server, Asked(), "tools/call", enveloped(params, version), connection=connection, lifespan_state=None
        )
    except (MCPError, ValidationError) as error:
        return type(error).__name__
    return from_json(to_json(result))


@pytest.mark.parametrize("version", KNOWN_PROTOCOL_VERSIONS)
async def test_every_version_is_answered_as_the_sdk_would(workspace, version):
    quick, plain = (McpFace(workspace, lambda _: Caller()) for _ in range(2))
    plain.server.middleware.pop()
    for title in ("First", "Zweite – „Übung“ \U0001f600"):
        await answer(quick.server, {"name": "task_create", "arguments": {"title": title}}, version)
    for params in READS:
        assert await answer(quick.server, params, version) == await answer(plain.server, params, version), params


async def test_before_the_handshake_no_tool_is_called(workspace):
    server = McpFace(workspace, lambda _: Caller()).server
    connection = Connection.for_loop(None)  # type: ignore[arg-type]
    with pytest.raises(MCPError, match="Invalid request parameters"):
        await serve_one(server, Asked(), "tools/call", READS[0], connection=connection, lifespan_state=None)
