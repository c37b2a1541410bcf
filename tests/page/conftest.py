"""A browser, and pages of both kinds for it.

The browser lives as long as a test module: Playwright's event loop must not be around when
tests of other modules start their own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.page_server import EXT_STATIC, PAGES, PageServer, page_server

expect.set_options(timeout=10_000)


@pytest.fixture(scope="session")
def bundle() -> None:
    """What the browser loads is bundled from the files as they are now."""
    bundled = EXT_STATIC / "dist/launch.js"
    sources = [*EXT_STATIC.glob("*.*"), *EXT_STATIC.glob("page/*.js")]
    if bundled.exists() and all(path.stat().st_mtime <= bundled.stat().st_mtime for path in sources):
        return
    checkout = Path(__file__).parents[2]
    subprocess.run(["npm", "run", "--silent", "build"], cwd=checkout, check=True, capture_output=True)


@pytest.fixture(scope="module")
def browser(bundle: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of its own, with its own storage. Fails the test when the page's script does."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(10_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    """Pages as operators of BinderHub's main branch see them."""
    with page_server(PAGES["drawn by a script"]) as server:
        yield server
