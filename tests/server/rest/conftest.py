"""A project with the sample in it, served over HTTP."""

import pytest
from rest_server import RestClient, serving

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.sample import FOLDER


@pytest.fixture
async def sample(workspace):
    """The workspace of a project that holds the sample project."""
    await import_folder(workspace.opened, FOLDER)
    return workspace


@pytest.fixture
async def rest(workspace):
    """A client of REST on a project that holds only the built-in definitions."""
    async with serving(workspace) as address, RestClient(address) as client:
        yield client


@pytest.fixture
async def sample_rest(sample):
    """A client of REST on the sample project."""
    async with serving(sample) as address, RestClient(address) as client:
        yield client
