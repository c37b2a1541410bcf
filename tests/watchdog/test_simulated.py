"""A model of a Hub and its cluster, at the real times of the defaults, in the time of a fake clock.

The model is ordinary: starts and stops take as long as they like, the two sides are read some seconds apart, the Hub
notices things late. Whatever the seed, no sign may stand. A Hub that loses its pods, in the same model, is found.
"""

import random
from dataclasses import dataclass, field

import pytest

from binderhub_ext.watchdog.decisions import Action, Decider, Limits
from binderhub_ext.watchdog.observations import HubServer, ServerPod
from binderhub_ext.watchdog.signs import Sign, SignTracker
from tests.support.watch_looks import HUB_POD, key, look


@dataclass
class Life:
    """One server: when things happen, in seconds. The Hub sees the pod's changes `late` seconds later.

    An ordinary Hub: after the pod is ready it waits up to 30 s (`Spawner.http_timeout`) for the server, and a pod
    that ends by itself is noticed at one of the polls, each 30 s, and stopped in some seconds more.
    """

    user: str
    asked: float
    made: float
    ready: float
    hub_ready: float
    leaves: float
    terminating: float
    gone: float
    hub_gone: float
    alone: bool = False

    @classmethod
    def ordinary(cls, number: int, rng: random.Random) -> "Life":
        asked = rng.uniform(0, 20_000)
        made = asked + rng.expovariate(1 / 3)
        ready = made + rng.choice([rng.uniform(1, 20), rng.uniform(20, 600)])  # pulls images, waits for nodes
        hub_ready = ready + rng.uniform(0, 30)
        leaves = hub_ready + rng.expovariate(1 / 900)
        alone = rng.random() < 0.2  # evicted, crashed, out of memory: nobody asked the Hub
        terminating = leaves + (0 if alone else rng.uniform(0, 5))
        gone = terminating + rng.uniform(0, 45)
        hub_gone = gone + (rng.uniform(0, 40) if alone else rng.uniform(0, 8))
        return cls(
            f"user-{number}", asked, made, ready, hub_ready, leaves, terminating, gone, hub_gone, alone
        )

    def server(self, at: float) -> HubServer | None:
        if not self.asked <= at < self.hub_gone:
            return None
        stopping = at >= self.leaves and not self.alone
        pending = "stop" if stopping else "spawn" if at < self.hub_ready else ""
        return HubServer(key(self.user), self.hub_ready <= at and not stopping, pending, f"t{self.asked}")

    def pod(self, at: float) -> ServerPod | None:
        if not self.made <= at < self.gone:
            return None
        running = self.ready <= at
        return ServerPod(
            f"jupyter-{self.user}", f"uid-{self.user}", key(self.user), "Running" if running else "Pending",
            running, at >= self.terminating,
        )  # fmt: skip


@dataclass
class World:
    lives: list[Life]
    rng: random.Random
    seen: set[Sign] = field(default_factory=set)
    stood: list[tuple[float, Sign, str]] = field(default_factory=list)
    actions: set[Action] = field(default_factory=set)

    def watch(self, until: float, change=lambda at, servers, pods: (servers, pods)) -> "World":
        """Look every ten seconds; `change` may spoil what is seen."""
        tracker, decider, at = SignTracker(), Decider(Limits()), 0.0
        while at < until:
            skew = self.rng.uniform(-3, 3)  # the two sides are read some seconds apart
            servers = [s for life in self.lives if (s := life.server(at)) is not None]
            pods = [p for life in self.lives if (p := life.pod(at + skew)) is not None]
            servers, pods = change(at, servers, pods)
            observation = look(at, servers, pods, (HUB_POD,))
            findings = tracker.update(observation)
            decider.note(observation)
            self.actions.add(decider.decide(findings, observation, leader=True).action)
            self.seen |= {finding.sign for finding in findings}
            self.stood += [(at, finding.sign, finding.subject) for finding in findings if finding.stands]
            at += 10.0 + self.rng.expovariate(1.0)  # a look takes as long as it takes
        return self


def world(seed: int, starts: int = 1000) -> World:
    rng = random.Random(seed)
    return World([Life.ordinary(number, rng) for number in range(starts)], rng)


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_ordinary_starts_and_stops_at_random_speeds_raise_no_alarm(seed):
    ordinary = world(seed).watch(22_000)
    assert ordinary.stood == []
    assert ordinary.actions == {Action.NONE}
    # contradictions are ordinary for a while: without them this test would show nothing
    assert {Sign.START_STUCK, Sign.STOP_STUCK, Sign.GHOST} <= ordinary.seen


@pytest.mark.parametrize("seed", range(3))
def test_nor_do_they_with_an_api_server_and_a_hub_that_are_away_now_and_then(seed):
    rng = random.Random(seed)
    outages = [(start := rng.uniform(0, 20_000), start + rng.uniform(5, 300)) for _ in range(10)]
    hiccups = [(start := rng.uniform(0, 20_000), start + rng.uniform(5, 40)) for _ in range(20)]

    def change(at, servers, pods):
        hub_away = any(start <= at < end for start, end in hiccups)
        cluster_away = any(start <= at < end for start, end in outages)
        return None if hub_away else servers, None if cluster_away else pods

    assert world(seed).watch(22_000, change).stood == []


def test_a_hub_that_loses_its_pods_is_found_and_restarted():
    """From second 10,000 on the Hub learns nothing of its pods any more: what it says of servers stands still."""
    ill = world(0)
    frozen: dict = {}

    def change(at, servers, pods):
        if at < 10_000:
            return servers, pods
        frozen.setdefault("servers", servers)
        return frozen["servers"], pods

    ill.watch(11_000, change)
    first = min(at for at, _, _ in ill.stood)
    assert 10_000 + 60 <= first <= 10_000 + 180
    assert Action.RESTART in ill.actions
