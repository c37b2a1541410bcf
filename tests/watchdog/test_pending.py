"""The age of the oldest start and the oldest stop, in exact seconds."""

from binderhub_ext.watchdog.pending import PendingAges
from tests.support.watch_looks import look, server


def test_the_oldest_start_and_the_oldest_stop_are_told_apart():
    ages = PendingAges()
    assert ages.update(look(100.0, [server("ada", "spawn")])) == {"start": 0.0, "stop": 0.0}
    both = [server("ada", "spawn"), server("bob", "spawn"), server("cyd", "stop")]
    assert ages.update(look(110.0, both)) == {"start": 10.0, "stop": 0.0}
    assert ages.update(look(130.0, both[1:])) == {"start": 20.0, "stop": 20.0}
    assert ages.update(look(140.0, [server("bob", ready=True)])) == {"start": 0.0, "stop": 0.0}


def test_the_next_start_of_the_same_server_has_its_own_age():
    ages = PendingAges()
    ages.update(look(100.0, [server("ada", "spawn", started="t1")]))
    assert ages.update(look(110.0, [server("ada", "spawn", started="t2")]))["start"] == 0.0
    assert ages.update(look(115.0, [server("ada", "stop", started="t2")])) == {"start": 0.0, "stop": 0.0}


def test_a_hub_that_is_silent_for_a_while_makes_nothing_younger_and_nothing_up():
    ages = PendingAges()
    ages.update(look(100.0, [server("ada", "spawn")]))
    assert ages.update(look(110.0, None)) == {"start": 0.0, "stop": 0.0}
    assert ages.update(look(120.0, [server("ada", "spawn")])) == {"start": 20.0, "stop": 0.0}
