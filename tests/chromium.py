"""A real Chromium for tests, what it complains of, axe-core in it, and pictures for the documentation."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bmad_installs import npm_package

AXE = "4.14.1"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
WRITES_IMAGES = bool(os.environ.get("BMAD_WRITE_SCREENSHOTS"))
# The mark of the files whose tests share a browser.
IN_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def browsing() -> AsyncIterator[Any]:
    """A headless browser; skips the test where there is none."""
    pages = pytest.importorskip("bench.pages", reason="the package playwright drives the browser")
    program = pages.chromium()
    if program is None:
        pytest.skip("no Chromium: install one, or name it in BMAD_TEST_CHROMIUM")
    async with pages.launched(program) as browser:
        yield browser


class Tab:
    """A page of the browser, with everything that went wrong in it and every address it asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.asked: set[str] = set()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.asked.add(request.url))
        page.set_default_timeout(10_000)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.text} ({message.location.get('url')})")

    async def serious(self, frame: Any = None) -> list[str]:
        """What axe-core finds serious or worse, as `rule: element`."""
        where = frame or self.page
        await where.evaluate(axe())
        found = await where.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    async def picture(self, name: str) -> None:
        """Keep what is seen now as a picture of the documentation, when this run writes them."""
        if WRITES_IMAGES:
            IMAGES.mkdir(exist_ok=True)
            await self.page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


def axe() -> str:
    """axe-core's source."""
    return (npm_package("axe-core", AXE) / "axe.min.js").read_text(encoding="utf-8")
