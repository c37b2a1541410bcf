"""Logs are written by strangers, and can be long."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from tests.support.launches import building, failed, log
from tests.support.page_server import PageServer, Scenario

HOSTILE = [
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "\x1b]8;;javascript:window.owned=1\x1b\\click me\x1b]8;;\x1b\\",
    '\x1b]8;;https://x/"onmouseover="window.owned=1\x1b\\hover me\x1b]8;;\x1b\\',
    "\x1b]0;owned\x07\x1b[2J\x1b[Hafter the sequences",
    "\x1b]8;;https://unterminated.example",
    "\x1b[38;2;1;1;",
    "the end of it",
]


def test_colours_are_shown(page: Page, server: PageServer) -> None:
    page.goto(server.launch(Scenario(building("plain \x1b[32mgreen\x1b[0m plain"))))
    green = page.get_by_role("log").get_by_text("green", exact=True)
    assert green.evaluate("text => getComputedStyle(text).color") == "rgb(34, 112, 63)"


def test_nothing_in_a_log_acts_on_the_page(page: Page, server: PageServer) -> None:
    page.goto(server.launch(Scenario(building(*HOSTILE))))
    shown = page.get_by_role("log")
    expect(shown).to_contain_text("the end of it")
    expect(shown).to_contain_text(HOSTILE[0])
    expect(shown).to_contain_text(HOSTILE[1])
    expect(shown.locator("img, script")).to_have_count(0)
    expect(shown.get_by_role("link", name="click me")).to_have_count(0)
    link = shown.get_by_role("link", name="hover me")
    assert link.evaluate("link => [link.target, link.rel]") == ["_blank", "noopener noreferrer nofollow"]
    link.hover()
    assert page.evaluate("window.owned") is None
    assert page.title().startswith("Building")


def test_error_texts_are_text(page: Page, server: PageServer) -> None:
    markup = "<img src=x onerror='window.owned = 1'>"
    event = failed(title=markup, detail=markup, hint=markup, code=markup, reference=markup)
    event["message"] = markup
    page.goto(server.launch(Scenario([event])))
    expect(page.get_by_role("heading", name=markup)).to_be_visible()
    expect(page.locator("#bhx-launch img")).to_have_count(0)
    assert page.evaluate("window.owned") is None


def test_twenty_thousand_lines_leave_the_page_usable(page: Page, server: PageServer) -> None:
    scenario = Scenario(building(*(f"\x1b[33mline\x1b[0m number {i}" for i in range(20_000))))
    page.goto(server.launch(scenario))
    expect(page.get_by_role("log")).to_contain_text("line number 19999", timeout=20_000)
    assert page.locator("#bhx-log > div").count() <= 3_000
    expect(page.get_by_text("Log 20,003 lines")).to_be_visible()
    expect(page.get_by_text("17,003 earlier lines are not shown")).to_be_attached()
    began = time.monotonic()
    page.locator("summary").click()
    expect(page.get_by_role("log")).to_be_hidden()
    assert time.monotonic() - began < 2


def test_one_line_of_a_megabyte_leaves_the_page_usable(page: Page, server: PageServer) -> None:
    page.goto(server.launch(Scenario(building("x" * 1_000_000, "after it"))))
    expect(page.get_by_role("log")).to_contain_text("998,000 more characters")
    expect(page.get_by_text("after it")).to_be_visible()


def test_the_log_follows_its_end_unless_the_reader_scrolled_up(page: Page, server: PageServer) -> None:
    page.set_viewport_size({"width": 1000, "height": 1200})
    scenario = Scenario(building(*(f"line {i}" for i in range(100))))
    page.goto(server.launch(scenario))
    expect(page.get_by_text("line 99", exact=True)).to_be_in_viewport()
    shown = page.get_by_role("log")
    shown.evaluate("log => { log.scrollTop = 100; }")
    expect(page.get_by_role("button", name="Go to the end")).to_be_visible()
    scenario.say(*log("line 100"))
    expect(page.get_by_text("line 100", exact=True)).to_be_attached()
    assert shown.evaluate("log => log.scrollTop") == 100
    page.get_by_role("button", name="Go to the end").click()
    expect(page.get_by_text("line 100", exact=True)).to_be_in_viewport()
    scenario.say(*log("line 101"))
    expect(page.get_by_text("line 101", exact=True)).to_be_in_viewport()


def test_a_log_that_the_reader_closed_stays_closed(page: Page, server: PageServer) -> None:
    scenario = Scenario(building("line 1"))
    page.goto(server.launch(scenario))
    expect(page.get_by_role("log")).to_be_visible()
    page.locator("summary").click()
    scenario.say(*log("line 2"))
    expect(page.get_by_text("5 lines")).to_be_visible()
    expect(page.get_by_role("log")).to_be_hidden()


def test_the_whole_log_is_copied_with_the_error(page: Page, server: PageServer) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lines = [f"\x1b[31mline\x1b[0m {i}" for i in range(5_000)]
    page.goto(server.launch(Scenario([*building(*lines), failed()])))
    page.get_by_role("button", name="Copy log").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0] == page.url
    assert "build.failed · reference ab12cd34" in copied
    assert [line for line in copied if line.startswith("line ")] == [f"line {i}" for i in range(5_000)]
