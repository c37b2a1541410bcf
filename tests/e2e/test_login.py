"""People log in at the Hub's own page in Chromium, and launch. Needs BinderHub's main branch: `make test-binderhub`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from binderhub_ext.timing import Deadline
from binderhub_ext.upstream import IS_MAIN
from tests.support.browser import async_chromium
from tests.support.scripted import spec
from tests.support.stack import Hub, Service

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not IS_MAIN, reason="binderhub 0.1.0 has no log-in"),
]
expect.set_options(timeout=30_000)

PREFIX = "/services/binder/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service behind the Hub's proxy, where the Hub says who somebody is."""
    hub = Hub(tmp_path_factory.mktemp("hub"), authenticator="dummy", named_servers=True)
    service = Service(hub, BinderHub__auth_enabled=True, Launcher__allow_named_servers=True)
    service.base = PREFIX
    hub.settings["service"] = {"url": f"http://127.0.0.1:{service.port}", "oauth_no_confirm": True}
    service.environment = {
        "JUPYTERHUB_API_TOKEN": hub.settings["service_token"],
        "JUPYTERHUB_CLIENT_ID": "service-binder",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_BASE_URL": "/",
    }
    try:
        await service.start()
        await hub.start()
        await behind_the_proxy(service)
        yield service
    finally:
        service.stop()
        hub.stop()


async def behind_the_proxy(service: Service) -> None:
    """Wait until the Hub has told its proxy where the service is."""
    deadline = Deadline.after(30)
    async with aiohttp.ClientSession() as session:
        while not deadline.expired:
            async with session.get(f"{service.hub.url}services/binder/health/live") as answer:
                if answer.status == 200:
                    return
            # the proxy has nothing to wait for
            await asyncio.sleep(0.05)
    raise AssertionError("the proxy has no route to the service")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(service: Service, browser: Browser) -> AsyncIterator[BrowserContext]:
    await service.hub.clear()
    context = await browser.new_context(base_url=service.hub.url)
    context.set_default_timeout(30_000)
    yield context
    await context.close()


async def log_in(page: Page, name: str) -> None:
    """Fill in the Hub's own form, which must be there."""
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill("pw")
    await page.get_by_role("button", name=re.compile("sign in", re.I)).click()


async def servers(service: Service) -> dict[str, list[str]]:
    return {user["name"]: list(user["servers"]) for user in await service.hub.users()}


async def test_a_link_leads_over_the_log_in_to_a_server_of_that_person(service, context):
    page = await context.new_page()
    await page.goto(f"{PREFIX}v2/test/{spec(lines=2)}?labpath=a.ipynb")
    await log_in(page, "alice")
    await page.wait_for_url(re.compile(r"/user/alice/[^/]+/doc/tree/a\.ipynb"))
    (name,) = (await servers(service))["alice"]
    assert f"/user/alice/{name}/" in page.url and name


async def test_who_is_logged_in_launches_at_once_and_each_launch_has_a_server_of_its_own(service, context):
    page = await context.new_page()
    for number in range(1, 3):
        await page.goto(f"{PREFIX}v2/test/{spec(name=f'again-{number}', lines=0)}")
        if number == 1:
            await log_in(page, "alice")
        await page.wait_for_url("**/user/alice/**")
        assert len((await servers(service))["alice"]) == number


async def test_a_reload_in_the_middle_goes_on_with_the_same_server(service, context):
    page = await context.new_page()
    await page.goto(f"{PREFIX}v2/test/{spec(name='reload', lines=1, spawn=3)}")
    await log_in(page, "alice")
    await expect(page.get_by_role("log")).to_contain_text("Server requested")
    await page.reload()
    await page.wait_for_url("**/user/alice/**")
    assert len((await servers(service))["alice"]) == 1


async def test_two_people_with_one_link_share_the_build_and_nothing_else(service, browser):
    await service.hub.clear()
    contexts = [await browser.new_context(base_url=service.hub.url) for _ in range(2)]
    link = f"{PREFIX}v2/test/{spec(name='both', lines=5, every=0.5)}"
    for context, name in zip(contexts, ("alice", "bob"), strict=True):
        page = await context.new_page()
        await page.goto(f"{PREFIX}v2/test/{spec(name='warm-up', resolve='none')}")
        await log_in(page, name)
        await expect(page.get_by_text("ref.not_found")).to_be_visible()
    pages = [context.pages[0] for context in contexts]
    await asyncio.gather(*(page.goto(link) for page in pages))
    await asyncio.gather(pages[0].wait_for_url("**/user/alice/**"), pages[1].wait_for_url("**/user/bob/**"))
    assert {name: len(found) for name, found in (await servers(service)).items()} == {"alice": 1, "bob": 1}
    assert service.hub.count("build http://repos.test/both?lines=5&every=0.5") == 1
    for context in contexts:
        await context.close()


async def test_a_session_that_ended_is_explained_and_its_launch_told_to_nobody(service, context):
    page = await context.new_page()
    await page.goto(f"{PREFIX}v2/test/{spec(name='ended', resolve='none')}")
    await log_in(page, "alice")
    await expect(page.get_by_text("ref.not_found")).to_be_visible()

    async def after_the_session(route: Route) -> None:
        await context.clear_cookies()
        await route.continue_(headers={**route.request.headers, "cookie": ""})

    await page.route("**/build/**", after_the_session)
    await page.goto(f"{PREFIX}v2/test/{spec(name='ended-2', lines=0)}")
    await expect(page.get_by_text("request.forbidden")).to_be_visible()
    assert (await servers(service))["alice"] == []
