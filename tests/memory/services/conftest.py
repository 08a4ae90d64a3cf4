"""Fakes and adapters; every test has its own port, guards and connections."""

from collections.abc import AsyncIterator

import pytest
from memory.services.fake_service import FakeMem0, FakeOpenMemory

from bench.fake_server import FakeServer
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import JsonClient
from bmad_mcp.memory.services.mem0 import Mem0
from bmad_mcp.memory.services.openmemory import OpenMemory

USER, PROJECT = "drj", "tidepool"


@pytest.fixture
async def fake_openmemory() -> AsyncIterator[FakeOpenMemory]:
    async with FakeOpenMemory(USER) as server:
        yield server


@pytest.fixture
async def fake_mem0() -> AsyncIterator[FakeMem0]:
    async with FakeMem0() as server:
        yield server


@pytest.fixture
async def elsewhere() -> AsyncIterator[FakeServer]:
    """Another host, which must never be asked."""
    async with FakeServer() as server:
        yield server
        assert server.asked == []


@pytest.fixture
async def openmemory(fake_openmemory) -> AsyncIterator[OpenMemory]:
    service = OpenMemory(JsonClient(fake_openmemory.url), user=USER, project=PROJECT, guards=Guards())
    yield service
    await service.aclose()


@pytest.fixture
async def mem0(fake_mem0) -> AsyncIterator[Mem0]:
    service = Mem0(JsonClient(fake_mem0.url), user=USER, project=PROJECT, guards=Guards())
    yield service
    await service.aclose()
