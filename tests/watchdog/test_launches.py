"""The service's metrics become launches since the look before."""

import pytest

from binderhub_ext.watchdog.launches import LaunchCounter, LaunchesUnknown, Totals, parse_totals
from binderhub_ext.watchdog.observations import LaunchCounts

OURS = """
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
# TYPE binderhub_ext_launch_outcomes_total counter
binderhub_ext_launch_outcomes_total{outcome="ready"} 7.0
binderhub_ext_launch_outcomes_total{outcome="failed"} 100.0
# TYPE binderhub_ext_failures_total counter
binderhub_ext_failures_total{code="build.failed"} 90.0
binderhub_ext_failures_total{code="hub.unreachable"} 6.0
binderhub_ext_failures_total{code="server.timeout"} 4.0
# TYPE binderhub_launch_count_total counter
binderhub_launch_count_total{status="success",provider="gh",repo="x"} 3.0
"""
UPSTREAM = """
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
# TYPE binderhub_launch_count_total counter
binderhub_launch_count_total{status="success",provider="gh",repo="x"} 3.0
binderhub_launch_count_total{status="success",provider="gh",repo="y"} 4.0
binderhub_launch_count_total{status="failure",provider="gh",repo="y"} 2.0
binderhub_launch_count_total{status="retry",provider="gh",repo="y"} 9.0
"""


def test_failures_that_are_none_of_the_hubs_business_are_left_out():
    assert parse_totals(OURS) == Totals("1700000000.0", 7.0, 10.0)


def test_a_binderhub_without_error_codes_is_taken_at_its_word():
    assert parse_totals(UPSTREAM) == Totals("1700000000.0", 7.0, 2.0)


@pytest.mark.parametrize("text", ["", "<html>Bad gateway</html>", "# TYPE a counter\na_total 1.0\n"])
def test_a_page_without_launches_is_unknown_and_not_zero(text):
    with pytest.raises(LaunchesUnknown):
        parse_totals(text)


def test_the_first_look_counts_nothing_that_was_before_it():
    assert LaunchCounter().update(Totals("a", 100, 50)) == LaunchCounts(0, 0)


def test_replicas_behind_one_address_are_told_apart():
    counter = LaunchCounter()
    counter.update(Totals("a", 100, 50))
    counter.update(Totals("b", 5, 1))
    assert counter.update(Totals("a", 101, 50)) == LaunchCounts(1, 0)
    assert counter.update(Totals("b", 5, 3)) == LaunchCounts(0, 2)


def test_a_counter_that_started_again_counts_from_zero():
    counter = LaunchCounter()
    counter.update(Totals("", 100, 50))
    assert counter.update(Totals("", 2, 1)) == LaunchCounts(2, 1)


def test_processes_that_are_gone_are_forgotten():
    counter = LaunchCounter(most_processes=3)
    for number in range(100):
        counter.update(Totals(str(number), 1, 0))
    assert counter.update(Totals("0", 50, 0)) == LaunchCounts(0, 0)
    assert counter.update(Totals("99", 2, 0)) == LaunchCounts(1, 0)
