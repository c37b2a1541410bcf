"""What a person sees who opens a launch link."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.launches import building, failed, stage
from tests.support.page_server import BASE, PAGES, PageServer, Scenario, page_server


@pytest.fixture(scope="module", params=list(PAGES))
def either_server(request: pytest.FixtureRequest) -> Iterator[PageServer]:
    """Pages of each kind of BinderHub."""
    with page_server(PAGES[request.param]) as server:
        yield server


def asked(page: Page) -> str:
    """Return what the Jupyter server was asked for."""
    page.wait_for_url("**/user/one/**")
    return page.locator("#asked").inner_text()


def steps(page: Page) -> list[str]:
    """Return the list of steps as a screen reader reads it, without the times."""
    items = page.get_by_role("list", name="Steps of this launch").get_by_role("listitem")
    return [" ".join(text.split(" (")[0].split()) for text in items.all_text_contents()]


def test_the_browser_is_taken_to_the_server_the_moment_it_is_ready(
    page: Page, either_server: PageServer
) -> None:
    scenario = Scenario(building("Step 1/3"))
    page.goto(either_server.launch(scenario))
    expect(page.get_by_role("heading", name="Building the image")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("Step 1/3")
    expect(page).to_have_title("Building · " + page.locator("h1").inner_text())
    scenario.say(stage("launching", 5.0), either_server.ready())
    assert asked(page) == f"{BASE}user/one/?token=s3cret"
    assert len(scenario.connections) == 1
    assert scenario.connections[0]["build_token"] == "a-build-token"
    page.go_back()
    assert page.url == "about:blank", "the launch page is not left behind in the history"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("?labpath=my%20notebook.ipynb", "doc/tree/my%20notebook.ipynb?token=s3cret"),
        ("?filepath=index.ipynb", "tree/index.ipynb?token=s3cret"),
        ("?urlpath=lab%3Fx%3D1", "lab?x=1&token=s3cret"),
        ("?urlpath=https://evil.example/", "?token=s3cret"),
        ("?urlpath=%5C%5Cevil.example/", "?token=s3cret"),
        ("?urlpath=javascript:alert(1)", "?token=s3cret"),
        ("?urlpath=../two/", "?token=s3cret"),
        ("?urlpath=%252e%252e/two/", "?token=s3cret"),
    ],
)
def test_the_link_chooses_a_page_of_the_server_and_nothing_else(
    page: Page, server: PageServer, query: str, path: str
) -> None:
    page.goto(server.launch(Scenario([server.ready()]), query), wait_until="commit")
    assert asked(page) == f"{BASE}user/one/{path}"


def test_each_step_is_shown_with_its_time(page: Page, either_server: PageServer) -> None:
    scenario = Scenario(
        [
            stage("resolving", 0.0),
            stage("checking", 0.4, remaining=60),
            stage("queued", 1.0, queue={"position": 3, "reason": "all build slots are taken"}),
        ]
    )
    page.goto(either_server.launch(scenario))
    expect(page.get_by_text("Place 3 in line: all build slots are taken").first).to_be_visible()
    assert steps(page) == [
        "Find the repository",
        "Look for its image",
        "Wait in line",
        "Build the image",
        "Start the server",
    ]
    scenario.say(stage("building", 13.2, remaining=90.0))
    rows = page.get_by_role("listitem")
    expect(rows.filter(has_text="Wait in line")).to_contain_text("12 s")
    expect(rows.filter(has_text="Look for its image")).to_contain_text("(done) 0.6 s")
    expect(rows.filter(has_text="Build the image")).to_contain_text("at most 1:")
    expect(page.locator("#bhx-queue")).to_be_hidden()
    scenario.say(stage("launching", 20.0, progress=40))
    expect(page.get_by_role("progressbar", name="Progress of this launch")).to_have_attribute("value", "40")
    clock = page.locator("#bhx-elapsed").inner_text()
    expect(page.locator("#bhx-elapsed")).not_to_have_text(clock)  # it runs


def test_an_image_that_exists_is_not_said_to_be_built(page: Page, server: PageServer) -> None:
    page.goto(server.launch(Scenario([stage("resolving", 0), stage("checking", 1), stage("launching", 2)])))
    expect(page.get_by_role("listitem").filter(has_text="Build the image")).to_contain_text("not needed")


def test_an_error_says_what_to_do_and_try_again_starts_a_new_launch(
    page: Page, either_server: PageServer
) -> None:
    scenario = Scenario([*building("pip: no such package"), failed()])
    page.goto(either_server.launch(scenario))
    error = page.get_by_role("region", name="The image could not be built")
    expect(error).to_be_visible()
    for text in (
        "Mend the file, then try again.",
        "requirements.txt, line 3",
        "build.failed · reference ab12cd34",
    ):
        expect(error).to_contain_text(text)
    expect(error).to_be_focused()
    expect(page).to_have_title("Failed · " + page.locator("h1").inner_text())
    expect(page.get_by_role("log")).to_contain_text("pip: no such package")
    scenario.events = [either_server.ready()]
    error.get_by_role("button", name="Try again").click()
    assert asked(page)
    assert [connection["launch"] for connection in scenario.connections] == ["ticket-1", "ticket-2"]


def test_a_failure_of_another_server_is_readable(page: Page, server: PageServer) -> None:
    scenario = Scenario(
        [{"phase": "waiting", "message": "hi\n"}, {"phase": "failed", "message": "no such ref\n"}]
    )
    page.goto(server.launch(scenario))
    expect(page.get_by_role("region", name="no such ref")).to_be_visible()


def test_an_address_that_is_none_of_the_web_is_not_opened(page: Page, server: PageServer) -> None:
    page.goto(server.launch(Scenario([server.ready(url="javascript:document.title='owned'//")])))
    expect(page.get_by_text("its address cannot be opened")).to_be_visible()
    expect(page).not_to_have_title("owned")


def test_it_is_used_with_the_keyboard(page: Page, server: PageServer) -> None:
    scenario = Scenario([*building(*(f"line {i}" for i in range(200))), failed()])
    page.goto(server.launch(scenario))
    expect(page.locator("#bhx-error")).to_be_focused()
    focused = []
    for _ in range(5):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 9) || 'nothing'"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", f"{focused[-1]} shows that it has the focus"
    assert focused[:2] == ["Try again", "Front pag"]
    assert focused[2].startswith("Log")
    assert focused[3] == "Copy log"
    before = page.locator("#bhx-log").evaluate("log => log.scrollTop")
    page.keyboard.press("PageUp")
    page.wait_for_function("before => document.getElementById('bhx-log').scrollTop < before", arg=before)


def test_a_screen_reader_hears_of_stages_not_of_log_lines(page: Page, server: PageServer) -> None:
    scenario = Scenario(building("a log line"))
    page.goto(server.launch(scenario))
    status = page.get_by_role("status")
    expect(status).to_have_text("Building the image")
    expect(status).to_have_attribute("aria-live", "polite")
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    expect(page.locator("[aria-current=step]")).to_contain_text("Build the image")


NEEDS_JAVASCRIPT = "This page needs JavaScript to start your server"


def test_without_javascript_the_page_says_what_it_needs(browser: Browser, either_server: PageServer) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(either_server.launch(Scenario([])))
    expect(page.get_by_text(NEEDS_JAVASCRIPT)).to_be_visible()
    expect(page.get_by_role("link", name="user/repo")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    context.close()


def test_a_script_that_does_not_arrive_is_not_a_page_that_waits_for_ever(
    page: Page, server: PageServer
) -> None:
    page.route("**/dist/launch.js", lambda route: route.abort())
    page.goto(server.launch(Scenario([])))
    expect(page.get_by_text(NEEDS_JAVASCRIPT)).to_be_visible()
    page.unroute("**/dist/launch.js")
    page.reload()
    expect(page.get_by_role("heading", name="Starting")).to_be_visible()
    expect(page.get_by_text(NEEDS_JAVASCRIPT)).to_be_hidden()


def test_dark_narrow_and_still_screens(browser: Browser, either_server: PageServer) -> None:
    context = browser.new_context(
        color_scheme="dark", reduced_motion="reduce", viewport={"width": 320, "height": 600}
    )
    page = context.new_page()
    page.goto(either_server.launch(Scenario(building("a" * 500, "Größe geändert", "سطر من السجل"))))
    row = page.get_by_text("سطر من السجل")
    expect(row).to_be_visible()
    assert row.evaluate("row => getComputedStyle(row).direction") == "rtl"
    assert page.get_by_text("Größe").evaluate("row => getComputedStyle(row).direction") == "ltr"
    assert page.evaluate("document.documentElement.scrollWidth") <= 320, "nothing sticks out at the side"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in background[4:-1].split(",")) < 64, background
    assert page.locator("#bhx-bar").evaluate("bar => getComputedStyle(bar).animationName") == "none"
    context.close()
