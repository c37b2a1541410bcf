"""A connection that drops, is refused or goes silent changes nothing but what the page says meanwhile."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.support.launches import building, failed, stage
from tests.support.page_server import BASE, Fault, PageServer, Scenario

LOST = "Connection lost, reconnecting; your launch goes on."
LINES = [f"log line {i:03}" for i in range(40)]


def log_lines(page: Page) -> list[str]:
    """Return the lines of the build's log that the page shows."""
    return re.findall(r"log line \d{3}", page.get_by_role("log").inner_text())


def test_a_dropped_connection_goes_on_where_it_was(page: Page, server: PageServer) -> None:
    scenario = Scenario(building(*LINES), faults=[Fault(after=5), Fault(after=7), Fault(after=11)])
    page.goto(server.launch(scenario))
    expect(page.get_by_role("log")).to_contain_text(LINES[-1])
    assert log_lines(page) == LINES
    assert [connection["last"] for connection in scenario.connections] == ["", "5", "12", "23"]
    assert {connection["launch"] for connection in scenario.connections} == {"ticket-1"}
    expect(page.get_by_text(LOST).first).to_be_hidden()


def test_the_page_says_that_the_launch_goes_on_while_nothing_answers(page: Page, server: PageServer) -> None:
    scenario = Scenario(building(*LINES[:3]), faults=[Fault(after=4)] + [Fault(status=502)] * 2)
    page.goto(server.launch(scenario))
    expect(page.locator("#bhx-lost")).to_be_visible()
    expect(page.locator("#bhx-lost")).to_have_text(LOST)
    expect(page.get_by_role("status")).to_have_text(LOST)
    expect(page).to_have_title(re.compile("^Reconnecting · "))
    # a gateway's error makes EventSource give up; the page does not
    expect(page.get_by_role("log")).to_contain_text(LINES[2])
    expect(page.locator("#bhx-lost")).to_be_hidden()
    expect(page).to_have_title(re.compile("^Building · "))
    assert log_lines(page) == LINES[:3]
    assert [connection["last"] for connection in scenario.connections] == ["", "4", "4", "4"]


def test_the_server_is_opened_although_the_connection_dropped_just_before(
    page: Page, server: PageServer
) -> None:
    scenario = Scenario([*building(), server.ready()], faults=[Fault(after=3), Fault(status=503)])
    page.goto(server.launch(scenario), wait_until="commit")
    page.wait_for_url("**/user/one/?token=s3cret")


def test_events_that_are_sent_again_are_shown_once(page: Page, server: PageServer) -> None:
    faults = [Fault(after=20), Fault(after=10, again=15), Fault(after=99, again=30)]
    page.goto(server.launch(Scenario(building(*LINES), faults=faults)))
    expect(page.get_by_role("log")).to_contain_text(LINES[-1])
    assert log_lines(page) == LINES


def test_a_connection_that_is_open_but_dead_is_replaced(page: Page, server: PageServer) -> None:
    scenario = Scenario(building(*LINES), faults=[Fault(after=9, stall=True)], config={"stallSeconds": 0.5})
    page.goto(server.launch(scenario))
    expect(page.get_by_role("log")).to_contain_text(LINES[-1])
    assert log_lines(page) == LINES
    assert scenario.connections[1]["last"] == "9"


def test_no_network_for_a_while(page: Page, server: PageServer) -> None:
    scenario = Scenario(building("log line 000"), config={"stallSeconds": 0.5})
    page.goto(server.launch(scenario))
    expect(page.get_by_role("log")).to_contain_text("log line 000")
    page.context.set_offline(True)
    expect(page.locator("#bhx-lost")).to_be_visible()
    scenario.say({"phase": "building", "message": "log line 001\n"})
    page.context.set_offline(False)
    expect(page.get_by_role("log")).to_contain_text("log line 001")
    expect(page.locator("#bhx-lost")).to_be_hidden()
    assert log_lines(page) == ["log line 000", "log line 001"]


def test_a_launch_that_is_over_elsewhere_is_not_asked_for_for_ever(page: Page, server: PageServer) -> None:
    scenario = Scenario(building(), faults=[Fault(after=2)] + [Fault(status=204)] * 9)
    page.goto(server.launch(scenario))
    expect(page.get_by_role("region", name="This launch is no longer known")).to_be_visible()
    scenario.faults, scenario.events = [], [server.ready()]
    page.get_by_role("button", name="Try again").click()
    page.wait_for_url("**/user/one/**")
    assert scenario.connections[-1]["launch"] == "ticket-2"


def test_a_reload_goes_on_with_the_same_launch(page: Page, server: PageServer) -> None:
    scenario = Scenario(
        [stage("resolving", 0), stage("building", 100.0), {"phase": "building", "message": LINES[0]}]
    )
    page.goto(server.launch(scenario, "?labpath=a.ipynb"))
    expect(page.get_by_role("log")).to_contain_text(LINES[0])
    page.reload()
    expect(page.get_by_role("log")).to_contain_text(LINES[0])
    assert log_lines(page) == LINES[:1]
    expect(page.locator("#bhx-elapsed")).to_have_text(re.compile(r"1:4\d min"))
    assert [connection["launch"] for connection in scenario.connections] == ["ticket-1", "ticket-1"]
    scenario.say(server.ready())
    page.wait_for_url(f"**{BASE}user/one/doc/tree/a.ipynb?token=s3cret")


def test_a_renewed_ticket_is_the_one_that_is_used(page: Page, server: PageServer) -> None:
    scenario = Scenario([stage("resolving", 0), stage("building", 1, ticket="newer")])
    page.goto(server.launch(scenario))
    expect(page.get_by_role("heading", name="Building")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Building")).to_be_visible()
    assert [connection["launch"] for connection in scenario.connections] == ["ticket-1", "newer"]


def test_a_reload_after_a_failure_is_a_new_launch(page: Page, server: PageServer) -> None:
    scenario = Scenario([*building(), failed()])
    page.goto(server.launch(scenario))
    expect(page.locator("#bhx-error")).to_be_visible()
    scenario.events = building()
    page.reload()
    expect(page.get_by_role("heading", name="Building")).to_be_visible()
    assert [connection["launch"] for connection in scenario.connections] == ["ticket-1", "ticket-2"]


def test_a_launch_that_is_forgotten_starts_again_by_itself_once(page: Page, server: PageServer) -> None:
    scenario = Scenario(building("log line 000"))
    page.goto(server.launch(scenario))
    expect(page.get_by_role("log")).to_contain_text("log line 000")
    scenario.known_tickets = {"ticket-3"}
    page.reload()
    expect(page.get_by_role("log")).to_contain_text("log line 000")
    assert [connection["launch"] for connection in scenario.connections] == [
        "ticket-1",
        "ticket-1",
        "ticket-3",
    ]
    # when the new one is refused too, the page says so and stays
    scenario.known_tickets = set()
    page.reload()
    expect(page.get_by_role("region", name="Too old")).to_be_visible()
    assert scenario.pages == 5
