"""What the tests of encryption share."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from harness import TestDatabase

from bmad_mcp.db import open_pool


@pytest.fixture
async def owner(database: TestDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections of the schema's owner, who alone may put pseudonyms into the trail."""
    pool = await open_pool(**database.owner)
    yield pool
    await pool.close()
