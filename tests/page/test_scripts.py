"""The operator's snippets run, ours run, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.support.launches import building
from tests.support.page_server import BASE, PAGES, PageServer, Scenario, page_server

LOADS_ANOTHER = """
  window.operatorRan = '</ script>' && 1;
  const more = document.createElement('script');
  more.src = '/base/more.js';
  more.onload = () => { window.loadedMore = 1; };
  document.head.append(more);
"""
OPERATOR = {
    "banner": '<b>Maintenance</b> <i onclick="window.handlerRan = 1">details</i>',
    "extra_footer_scripts": {"analytics": LOADS_ANOTHER},
    "extra_header_html": {"head": "<script>window.headerRan = 1</script>"},
    "page_config": {"baseUrl": BASE},
}


@pytest.fixture(scope="module", params=list(PAGES))
def operated_server(request: pytest.FixtureRequest) -> Iterator[PageServer]:
    """Pages with everything that an operator can add."""
    with page_server(PAGES[request.param], namespace=OPERATOR) as server:
        yield server


def test_snippets_of_the_operator_run(page: Page, operated_server: PageServer) -> None:
    page.route(
        "**/more.js", lambda route: route.fulfill(body="window.more = 1", content_type="text/javascript")
    )
    page.goto(operated_server.launch(Scenario(building("a line"))))
    expect(page.get_by_role("log")).to_contain_text("a line")
    assert page.evaluate("window.operatorRan") == 1
    page.wait_for_function("window.loadedMore === 1 && window.more === 1")
    if page.get_by_text("Maintenance").count():  # 0.1.0 has neither
        assert page.evaluate("[window.headerRan, window.pageConfig.baseUrl]") == [1, BASE]
        page.get_by_text("details").click()
        assert page.evaluate("window.handlerRan") == 1


def test_scripts_that_get_in_another_way_do_not_run(page: Page, operated_server: PageServer) -> None:
    blocked: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            blocked.append(message.text)

    page.on("console", note)
    page.goto(operated_server.launch(Scenario(building("a line"))))
    expect(page.get_by_role("log")).to_contain_text("a line")
    assert blocked == [], "nothing of the page itself is blocked"
    page.evaluate(
        """() => {
          const log = document.getElementById('bhx-log');
          log.insertAdjacentHTML('beforeend', '<button onclick="window.owned = 1">press</button>'
            + '<iframe srcdoc="<script>parent.owned = 1</script>"></iframe>'
            + '<a href="javascript:window.owned = 1">follow</a>');
          const base = document.createElement('base');
          base.href = 'https://evil.example/';
          document.head.append(base);
        }"""
    )
    page.get_by_role("button", name="press").click()
    page.get_by_role("link", name="follow").click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.owned") is None
    assert page.evaluate("document.baseURI").startswith(operated_server.origin)
    assert len(blocked) >= 4


def test_tokens_are_told_to_nobody_by_the_referrer(page: Page, server: PageServer) -> None:
    referrers: dict[str, str | None] = {}
    page.on("request", lambda request: referrers.update({request.url: request.headers.get("referer")}))
    page.goto(server.launch(Scenario([server.ready()]), "?urlpath=lab"), wait_until="commit")
    page.wait_for_url("**/user/one/**")
    assert len(referrers) >= 4
    # what the Jupyter server's own page tells is that server's affair
    assert {told for told in referrers.values() if told and "/user/one/" not in told} == set()


def test_the_page_of_retired_links_is_readable(page: Page, operated_server: PageServer) -> None:
    answer = page.goto(f"{operated_server.origin}{BASE}message/x?image=old")
    assert answer is not None
    assert answer.status == 410
    expect(page.get_by_role("heading", name="This kind of link has retired")).to_be_visible()
    expect(page.get_by_text("It opened an image <b>directly</b>.")).to_be_visible()
    expect(page.get_by_role("link", name="Front page")).to_have_attribute("href", BASE)
