"""How soon the dashboard can be used: a real Chromium, from the navigation to a card that can be clicked."""

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import async_playwright

PROGRAMS = (os.environ.get("BMAD_TEST_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
VIEWPORT = {"width": 1280, "height": 720}


def chromium() -> str | None:
    """The browser of this machine, if there is one."""
    return next((found for name in PROGRAMS if name and (found := shutil.which(name))), None)


@asynccontextmanager
async def launched(program: str) -> AsyncIterator[Any]:
    """The browser without a window."""
    # Chromium's own sandbox cannot be had by root, which tests in containers often are.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            await browser.close()


async def interactive(browser: Any, address: str, rounds: int) -> list[float]:
    """Seconds to the first card that takes a click; each round is a new visitor, whose browser has kept nothing."""
    found = []
    # The first round fills the caches of the server and of the disk.
    for number in range(rounds + 1):
        page = await browser.new_page(viewport=VIEWPORT)
        began = time.perf_counter()
        await page.goto(address, wait_until="commit")
        await page.locator(".card .title").first.click(trial=True, timeout=60_000)
        if number:
            found.append(time.perf_counter() - began)
        await page.close()
    return found
