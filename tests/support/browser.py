"""Chromium for tests: the system's, else Playwright's own, else the tests say why they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import pytest
from playwright import async_api
from playwright.sync_api import Browser, Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
)


def chromium_path() -> str | None:
    """Return the path of the system's Chromium; None when there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def skip(error: Error) -> NoReturn:
    pytest.skip(f"no Chromium that starts here: {str(error).splitlines()[0]}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium, and end it. Skips the test when none can be started."""
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        except Error as error:
            skip(error)
        try:
            yield browser
        finally:
            browser.close()


@asynccontextmanager
async def async_chromium() -> AsyncIterator[async_api.Browser]:
    """The same for Playwright's asynchronous interface."""
    async with async_api.async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        except Error as error:
            skip(error)
        try:
            yield browser
        finally:
            await browser.close()
