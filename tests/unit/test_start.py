"""A server is started once, whatever the Hub answers; exact seconds, by a clock of the tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub import start as module
from binderhub_ext.hub.client import HubBusy, HubRefused, HubUnreachable, Progress
from binderhub_ext.hub.gate import HubGate
from binderhub_ext.hub.start import RetryPolicy, ServerRequest, ServerStart
from binderhub_ext.timing import Deadline, backoff
from tests.support.clock import PatientClock

READY = [Progress("Server requested"), Progress("Pulling"), Progress("ready", ready=True)]
GONE = HubUnreachable("connection refused")


def failed(why: str) -> list[Progress]:
    return [Progress("Server requested"), Progress(f"Spawn failed: {why}", failed=True)]


MAY_PASS, CRASHED = failed("Connection refused"), failed("exit code 1")


class ScriptedHub:
    """A Hub that answers each request with the next of its lines; after the last one, with the usual answer."""

    def __init__(self, **lines: list[Any]) -> None:
        self.lines = lines
        self.asked: list[str] = []

    def _next(self, what: str, usual: Any) -> Any:
        self.asked.append(what)
        answers = self.lines.get(what, [])
        answer = answers.pop(0) if answers else usual
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def create_user(self, name: str) -> bool:
        return self._next("create", True)

    async def get_user(self, name: str) -> dict[str, Any] | None:
        return self._next("look", {"servers": {}})

    async def start_server(self, user: str, server: str, options: Any) -> None:
        self._next("start", None)

    @asynccontextmanager
    async def progress(self, user: str, server: str) -> Any:
        events = self._next("progress", READY)

        async def all_of_them() -> Any:
            for event in events:
                if isinstance(event, Exception):
                    raise event
                yield event

        yield all_of_them()


def model(token: str = "ours", **state: Any) -> dict[str, Any]:
    return {"servers": {"": {"user_options": {"token": token}, **state}}}


class Try:
    """A start, and what it said."""

    def __init__(
        self, hub: ScriptedHub, *, create_user: bool = True, server: str = "", limit: int = 0, **policy: Any
    ):
        self.hub, self.clock = hub, PatientClock()
        self.progress: list[str] = []
        self.retried: list[tuple[str, int]] = []
        self.gate = HubGate(self._probe, self.clock, threshold=1000)
        self.start = ServerStart(
            hub,
            ServerRequest("user", server, create_user, {"token": "ours"}, limit),
            self.gate,
            clock=self.clock,
            policy=RetryPolicy(**policy),
            on_progress=lambda event: self.progress.append(event.message),
            on_retry=lambda failure, attempt: self.retried.append((failure.code, attempt)),
            on_queue=lambda place, reason: None,
        )

    async def _probe(self) -> None:
        return None

    async def run(self, seconds: float = 60, **options: Any) -> str:
        """Return how it ended: ``ready`` or the code."""
        try:
            await self.start.run(Deadline.after(seconds, self.clock), **options)
        except LaunchError as error:
            self.error = error
            return error.code
        return "ready"


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch):
    monkeypatch.setattr(module, "backoff", partial(backoff, uniform=lambda low, high: high))


async def test_a_start_is_three_requests():
    one = Try(ScriptedHub())
    assert await one.run() == "ready"
    assert one.hub.asked == ["create", "start", "progress"]
    assert one.progress == ["Server requested", "Pulling"] and one.clock.slept == []


async def test_a_failure_that_may_pass_is_tried_four_times_with_doubled_waits():
    one = Try(ScriptedHub(progress=[MAY_PASS] * 9))
    assert await one.run() == "server.crashed"
    assert one.hub.asked.count("start") == 4 and one.hub.asked.count("create") == 1
    assert one.clock.slept == [1, 2, 4]
    assert one.retried == [("server.crashed", 1), ("server.crashed", 2), ("server.crashed", 3)]


@pytest.mark.parametrize(
    "why", ["exit code 1", "Failed to pull image x", "exceeded quota", "is forbidden", "words"]
)
async def test_a_failure_that_will_not_pass_ends_it_at_once(why):
    one = Try(ScriptedHub(progress=[failed(why)]))
    assert await one.run() != "ready"
    assert one.hub.asked.count("start") == 1 and one.clock.now == 0


async def test_a_hub_that_does_not_answer_is_asked_until_the_deadline():
    one = Try(ScriptedHub(create=[GONE] * 99, look=[GONE] * 99))
    assert await one.run(60) == "hub.unreachable"
    assert one.clock.slept == [1, 2, 4, 8, 15, 15]
    assert one.clock.now < 60 and not one.error.detail


async def test_an_outage_is_outlived_however_many_attempts_it_takes():
    one = Try(ScriptedHub(create=[GONE], look=[GONE] * 5 + [None]))
    assert await one.run(60) == "ready"
    assert one.hub.asked.count("start") == 1


async def test_a_retry_after_that_is_past_the_deadline_ends_it_at_once():
    one = Try(ScriptedHub(start=[HubBusy("come back", 429, 90.0)]))
    assert await one.run(60) == "hub.unreachable"
    assert one.clock.now == 0
    await one.gate.close()


@pytest.mark.parametrize("wait", [True, False])
async def test_a_full_hub_refuses_or_is_waited_for(wait):
    full = HubBusy("Active user limit exceeded. Try again in a few minutes.", 429, 2.0)
    one = Try(ScriptedHub(start=[full, full]), wait_for_quota=wait)
    assert await one.run() == ("ready" if wait else "quota.hub")
    assert one.hub.asked.count("start") == (3 if wait else 1)


async def test_a_cut_progress_stream_is_taken_up_for_the_same_server_and_nothing_is_told_twice():
    hub = ScriptedHub(
        progress=[READY[:1], [*READY[:2], GONE], READY], look=[model(pending="spawn"), model(pending="spawn")]
    )
    one = Try(hub)
    assert await one.run() == "ready"
    assert hub.asked.count("start") == 1 and one.progress == ["Server requested", "Pulling"]


async def test_a_start_whose_answer_is_lost_is_looked_for_and_not_repeated():
    one = Try(ScriptedHub(start=[GONE], look=[model(pending="spawn")]))
    assert await one.run() == "ready"
    assert one.hub.asked == ["create", "start", "look", "progress"]


@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize("state", [{"ready": True}, {"pending": "spawn"}])
async def test_a_conflict_is_looked_into(status, state):
    one = Try(ScriptedHub(start=[HubRefused("conflict", status)], look=[model(**state)]))
    assert await one.run() == "ready"
    one = Try(ScriptedHub(start=[HubRefused("conflict", status)], look=[model(token="theirs", **state)]))
    assert await one.run() == "quota.user"
    one = Try(ScriptedHub(start=[HubRefused("conflict", status)]))
    assert await one.run() == "hub.refused"


async def test_a_user_that_is_somebody_elses_is_left_alone():
    one = Try(ScriptedHub(create=[False], look=[model(token="theirs", ready=True)]))
    assert await one.run() == "quota.user"
    assert "start" not in one.hub.asked and not one.start.made


async def test_a_user_whose_creation_was_not_answered_is_to_be_cleaned_up():
    one = Try(ScriptedHub(create=[GONE] * 9, look=[GONE] * 9))
    await one.run(5)
    assert one.start.made


async def test_a_server_that_is_being_stopped_is_waited_for():
    hub = ScriptedHub(look=[model(pending="stop"), model(pending="stop"), {"servers": {}}])
    one = Try(hub)
    assert await one.run(look_first=True) == "ready"
    assert hub.asked == ["look", "look", "look", "start", "progress"] and one.clock.now == 3


async def test_a_launch_that_another_process_began_is_gone_on_with():
    one = Try(ScriptedHub(look=[model(ready=True)]))
    assert await one.run(look_first=True) == "ready"
    assert one.hub.asked == ["look"]


async def test_a_user_has_only_so_many_named_servers():
    servers = {"servers": {"a": {}, "b": {}}}
    one = Try(ScriptedHub(look=[servers]), create_user=False, server="c", limit=2)
    assert await one.run() == "quota.user"
    assert "2 named servers" in one.error.message


async def test_a_500_without_words_is_tried_again_and_told_as_the_hubs_refusal():
    one = Try(ScriptedHub(start=[HubRefused("Internal Server Error", 500)] * 9))
    assert await one.run() == "hub.refused"
    assert one.hub.asked.count("start") == 4


async def test_progress_of_a_server_that_is_not_starting_is_looked_into():
    one = Try(ScriptedHub(progress=[HubRefused("x is not starting...", 400)], look=[model(ready=True)]))
    assert await one.run() == "ready"
    assert one.hub.asked.count("start") == 1
