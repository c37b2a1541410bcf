"""Chromium for tests: the system's, else Playwright's own, else the tests say why they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
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


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium, and end it. Skips the test when none can be started."""
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        except Error as error:
            pytest.skip(f"no Chromium that starts here: {str(error).splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()
