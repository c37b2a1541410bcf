"""What a reflector does next, and how it asks: exact answers, no sockets."""

from __future__ import annotations

import asyncio

import pytest

from binderhub_ext.kube.rounds import Outcome, Rounds, Step
from binderhub_ext.kube.transport import hedged, outcome_of_status


def rounds(**more):
    return Rounds(first=1, limit=8, healthy=5, uniform=lambda low, high: high, **more)


def test_waits_grow_to_the_limit_and_only_a_healthy_interval_resets_them():
    machine = rounds(step=Step.WATCH)
    waits = [machine.ended(Outcome.UNREACHABLE) for _ in range(5)]
    assert waits == [1, 2, 4, 8, 8]
    assert machine.ended(Outcome.LISTED) == 0
    assert machine.ended(Outcome.UNREACHABLE, lasted=1) == 8
    assert machine.ended(Outcome.UNREACHABLE, lasted=6) == 1


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.CLOSED, Outcome.SILENT])
def test_the_first_end_of_a_watch_costs_no_wait_the_next_do(outcome):
    machine = rounds(step=Step.WATCH)
    waits = []
    for _ in range(3):
        waits.append(machine.ended(outcome))
        if machine.step is not Step.WATCH:
            machine.ended(Outcome.LISTED)
    assert waits == [0, 2, 4]


@pytest.mark.parametrize(
    "step, outcome, following",
    [
        (Step.WATCH, Outcome.TIMEOUT, Step.WATCH),
        (Step.WATCH, Outcome.SILENT, Step.WATCH),
        (Step.WATCH, Outcome.HTTP_ERROR, Step.WATCH),
        (Step.WATCH, Outcome.GONE, Step.LIST_RECENT),
        (Step.WATCH, Outcome.UNREADABLE, Step.LIST_FROM),
        (Step.LIST_FROM, Outcome.TOO_LARGE, Step.LIST_RECENT),
        (Step.LIST_FROM, Outcome.STALE, Step.LIST_RECENT),
        (Step.LIST_FROM, Outcome.UNREACHABLE, Step.LIST_FROM),
        (Step.LIST_RECENT, Outcome.GONE, Step.LIST_RECENT),
        (Step.LIST_RECENT, Outcome.LISTED, Step.WATCH),
    ],
)
def test_the_next_step(step, outcome, following):
    machine = rounds(step=step)
    machine.ended(outcome)
    assert machine.step is following


def test_before_the_first_list_nothing_but_a_list_comes_next():
    machine = rounds(step=Step.WATCH)
    machine.ended(Outcome.UNREACHABLE, loaded=False)
    assert machine.step is Step.LIST_RECENT


def test_a_doubt_leads_to_a_list_of_the_most_recent_state_once():
    machine = rounds(step=Step.WATCH)
    machine.relist()
    machine.ended(Outcome.TIMEOUT)
    assert machine.step is Step.LIST_RECENT
    machine.ended(Outcome.LISTED)
    assert machine.step is Step.WATCH


def test_statuses_of_the_api_become_outcomes():
    cause = {"causes": [{"reason": "ResourceVersionTooLarge"}]}
    assert outcome_of_status(504, "Timeout", cause) is Outcome.TOO_LARGE
    assert outcome_of_status(504, "Too large resource version: 9, current: 5") is Outcome.TOO_LARGE
    assert outcome_of_status(504, "request timed out") is Outcome.HTTP_ERROR
    assert outcome_of_status(410, "too old") is Outcome.GONE


@pytest.mark.parametrize(
    "step, outcome, expected",
    [
        (Step.LIST_FROM, Outcome.UNREACHABLE, 0),  # the request hung for all that time
        (Step.WATCH, Outcome.SILENT, 0),
        (Step.WATCH, Outcome.CLOSED, 8),  # the watch was alive, and another would end as soon
    ],
)
def test_the_time_for_which_a_request_hung_counts_as_a_wait(step, outcome, expected):
    machine = rounds(step=step, failures=7)
    machine.healthy = 100
    assert machine.ended(outcome, lasted=13) == expected


class Attempts:
    """Requests that end when the test says so."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[str]] = []
        self.begun = asyncio.Event()

    async def __call__(self) -> str:
        future = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        self.begun.set()
        return await future

    async def until(self, count: int) -> None:
        while len(self.futures) < count:
            self.begun.clear()
            await self.begun.wait()


@pytest.mark.parametrize("answered", [0, 1], ids=["the slow one", "the one beside it"])
async def test_a_request_that_hangs_gets_company_and_the_first_answer_counts(answered):
    attempts = Attempts()
    result = asyncio.create_task(hedged(attempts, 0.01))
    await attempts.until(2)
    attempts.futures[answered].set_result("pods")
    assert await result == "pods"
    assert attempts.futures[1 - answered].cancelled()


async def test_the_first_request_goes_on_while_the_one_beside_it_is_replaced_or_fails():
    attempts = Attempts()
    result = asyncio.create_task(hedged(attempts, 0.01))
    await attempts.until(3)
    attempts.futures[2].set_exception(OSError("refused"))
    await attempts.until(4)
    assert [future.done() for future in attempts.futures] == [False, True, True, False]
    attempts.futures[0].set_result("pods")
    assert await result == "pods"


async def test_a_request_that_fails_alone_fails_at_once():
    attempts = Attempts()
    result = asyncio.create_task(hedged(attempts, 60))
    await attempts.until(1)
    attempts.futures[0].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await result
