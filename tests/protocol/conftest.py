"""Addresses of the real server and of the one with the conformance suite's fixtures, both over real HTTP."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from auth_server import listening
from fixture_face import FixtureFace
from harness import TestWorkspace

from bmad_mcp.call import Caller
from bmad_mcp.operation import TOOLSETS
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.host_snippets import StdioCommand
from bmad_mcp.server.http import build_app
from bmad_mcp.server.mcp import McpFace

START = StdioCommand(sys.executable, ("-m", "bmad_mcp", "serve"))


def _real_face(workspace: TestWorkspace) -> McpFace:
    """Every toolset of the real server, and its stream of changes."""
    return McpFace(workspace, lambda _: Caller(), toolsets=TOOLSETS, feed=ChangeFeed(workspace.open_listener))


@asynccontextmanager
async def _serving(face: McpFace | FixtureFace, workspace: TestWorkspace) -> AsyncIterator[str]:
    async with listening(lambda at: build_app(face, workspace, FirstPage(workspace, "x", at, START))) as address:
        yield address


@pytest.fixture
async def real_address(workspace):
    """Every toolset of the real server."""
    async with _serving(_real_face(workspace), workspace) as address:
        yield address


@pytest.fixture(params=["real", "fixtures"])
async def server(request, workspace):
    """The name and address of the real server, then of the suite's fixtures behind our guard, endpoint and transport."""
    face = FixtureFace() if request.param == "fixtures" else _real_face(workspace)
    async with _serving(face, workspace) as address:
        yield request.param, address
