"""A memory service over real HTTP beside a project, for tests of operations."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from harness import TestWorkspace, new_project
from memory.services.fake_service import FakeOpenMemory

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.operation import perform


@pytest.fixture
async def service() -> AsyncIterator[FakeOpenMemory]:
    async with FakeOpenMemory("bmad") as server:
        yield server


@pytest.fixture
async def services(service) -> AsyncIterator[MemoryServices]:
    found = MemoryServices(service.url, user="bmad", setting="openmemory")
    yield found
    await found.aclose()


@pytest.fixture
async def beside_service(pool, services) -> TestWorkspace:
    """A project whose memories go to the service too."""
    return TestWorkspace(replace(await new_project(pool), services=services))


@pytest.fixture
def do(beside_service):
    async def run(name, /, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), beside_service)

    return run
