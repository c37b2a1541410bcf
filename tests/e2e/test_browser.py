"""A person opens a launch link in Chromium: real Hub, proxy, git, build, Jupyter server; connections that drop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.browser import async_chromium
from tests.support.fault_proxy import FaultProxy
from tests.support.local_run import LocalRun, make_repository, server_api
from tests.support.proxy_faults import CutEvents
from tests.support.stack import read

pytestmark = pytest.mark.asyncio(loop_scope="module")
expect.set_options(timeout=60_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalRun]:
    run = LocalRun(tmp_path_factory.mktemp("data"))
    try:
        await asyncio.to_thread(run.wait_for_link)
        yield run
        run.stop()
    finally:
        run.clean_up()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(60_000)
    yield page
    await context.close()


def link_to(run: LocalRun, repository: Path, ref: str = "main") -> str:
    base, _, _ = run.wait_for_link().partition("/v2/")
    return f"{base}/v2/git/{quote(str(repository), safe='')}/{ref}"


async def servers(run: LocalRun) -> list[str]:
    users = await asyncio.to_thread(run.users)
    return [name for name, user in users.items() if user["servers"]]


def user_of(url: str) -> str:
    match = re.search(r"/user/([^/]+)/", url)
    assert match, url
    return match[1]


async def test_the_demo_link_opens_its_notebook_with_a_kernel_that_runs(run, page):
    await page.goto(run.wait_for_link())
    await page.wait_for_url("**/doc/tree/demo.ipynb**")
    await expect(page.get_by_role("main").first).to_be_visible()
    base, _, rest = page.url.partition("/user/")
    server = f"{base}/user/{rest.partition('/')[0]}/"
    events = await asyncio.to_thread(run.launch)
    token = events[-1]["token"]
    status, kernel = await asyncio.to_thread(server_api, events[-1]["url"], token, "api/kernels", "POST", {})
    assert status == 201 and kernel["id"]
    assert server != events[-1]["url"], "each launch has a server of its own"


async def test_without_a_path_the_server_opens_at_its_start(run, page):
    await page.goto(run.wait_for_link().partition("?")[0])
    await page.wait_for_url(re.compile(r"/user/[^/]+/(lab|tree)"))


async def test_labpath_opens_that_file(run, page):
    await page.goto(run.wait_for_link().partition("?")[0] + "?labpath=README.md")
    await page.wait_for_url("**/doc/tree/README.md**")


async def test_an_address_outside_the_server_is_not_followed(run, page):
    await page.goto(
        run.wait_for_link().partition("?")[0] + "?urlpath=" + quote("https://evil.test/x", safe="")
    )
    await page.wait_for_url(re.compile(r"/user/"))
    assert urlsplit(page.url).hostname == "127.0.0.1"


async def test_a_wrong_ref_is_explained(run, page):
    before = await servers(run)
    await page.goto(run.wait_for_link().rpartition("/")[0] + "/no-such-branch")
    await expect(page.get_by_text("no branch, tag or commit of this name")).to_be_visible()
    await expect(page.get_by_text("ref.not_found")).to_be_visible()
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert await servers(run) == before


@pytest.mark.parametrize("cut_after", [3, 5, 9], ids=["while cloning", "while building", "while launching"])
async def test_a_cut_connection_ends_in_the_same_server_with_each_event_once(run, page, tmp_path, cut_after):
    files = {"requirements.txt": "cowsay==6.1\n", "README.md": f"cut after {cut_after}\n"}
    make_repository(tmp_path / "repo", files)
    link = link_to(run, tmp_path / "repo")
    before = await servers(run)
    async with FaultProxy(urlsplit(link).port) as proxy:
        await proxy.add(CutEvents(path="/build/", events=cut_after, first=1))
        shown = []
        await page.expose_function("shown", lambda data, event_id: shown.append((event_id, data)))
        await page.add_init_script(
            """const Native = EventSource;
            window.EventSource = class extends Native {
                constructor(...args) {
                    super(...args);
                    this.addEventListener("message", (event) => window.shown(event.data, event.lastEventId));
                }
            };"""
        )
        parts = urlsplit(link)
        await page.goto(parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl())
        await page.wait_for_url(re.compile(r"/user/"))
        streams = [request for request in proxy.requests if "/build/" in request.path]
    assert len(streams) >= 2, "the browser came back"
    new = [name for name in await servers(run) if name not in before]
    assert new == [user_of(page.url)]
    numbers = [int(event_id.split(".")[1]) for event_id, _ in shown]
    assert numbers == list(range(1, len(numbers) + 1)), "no event twice, none missing"
    ticket = shown[0][0].split(".")[0]
    whole = await read(link.replace("/v2/", "/build/") + f"?launch={ticket}")
    assert len(whole) == len(numbers)


async def test_two_tabs_share_one_build_and_get_a_server_each(run, browser, tmp_path):
    make_repository(tmp_path / "repo", {"requirements.txt": "cowsay==6.0\n", "README.md": "two tabs\n"})
    link = link_to(run, tmp_path / "repo")
    contexts = [await browser.new_context() for _ in range(2)]
    pages = [await context.new_page() for context in contexts]
    before = await servers(run)
    await asyncio.gather(*(page.goto(link) for page in pages))
    await asyncio.gather(*(page.wait_for_url(re.compile(r"/user/"), timeout=60_000) for page in pages))
    new = {name for name in await servers(run) if name not in before}
    assert new == {user_of(page.url) for page in pages} and len(new) == 2
    for context in contexts:
        await context.close()


async def test_a_reload_in_the_middle_goes_on_with_the_same_launch(run, page, tmp_path):
    make_repository(tmp_path / "repo", {"requirements.txt": "cowsay==5.0\n", "README.md": "reload\n"})
    before = await servers(run)
    await page.goto(link_to(run, tmp_path / "repo"))
    await page.get_by_role("list").first.wait_for()
    await page.reload()
    await page.wait_for_url(re.compile(r"/user/"))
    assert [name for name in await servers(run) if name not in before] == [user_of(page.url)]


async def test_the_old_page_says_that_it_is_gone(run, page):
    base, _, _ = run.wait_for_link().partition("/v2/")
    answer = await page.goto(f"{base}/run?image=gcr.io%2Fx&default_url=%2Ftree")
    assert answer.status == 410
    await expect(page.get_by_text("gone", exact=False).first).to_be_visible()
