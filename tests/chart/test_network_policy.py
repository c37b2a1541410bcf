"""What the NetworkPolicy lets through: what the watchdog looks at, and nothing else."""

from tests.support.watch_chart import CHART, one, render

HUB = {"app": "jupyterhub", "component": "hub", "release": "binder"}
BINDER = {"app": "binder", "component": "binder", "release": "binder"}
PROXY = {"app": "jupyterhub", "component": "proxy", "release": "binder"}

ANYWHERE = {53, 443, 6443}
"""Ports of the name service and of the API server, whose addresses are not known beforehand."""


def policy(*arguments):
    return one(render(*arguments), "NetworkPolicy")["spec"]


def ports(rules, side, labels=None):
    """Return the ports that some rule opens towards a pod with these labels; None: whatever is no pod."""

    def is_peer(peer):
        return labels is not None and peer["podSelector"]["matchLabels"].items() <= labels.items()

    opening = [rule for rule in rules if side not in rule or any(map(is_peer, rule[side]))]
    # a rule without ports opens all of them
    return {item["port"] for rule in opening for item in rule.get("ports", [{"port": "all"}])}


def test_the_watchdog_reaches_what_it_looks_at_and_nothing_else():
    rules = policy()
    assert sorted(rules["policyTypes"]) == ["Egress", "Ingress"]
    assert ports(rules["egress"], "to", HUB) == ANYWHERE | {8081}
    assert ports(rules["egress"], "to", BINDER) == ANYWHERE | {8585}
    assert ports(rules["egress"], "to", PROXY) == ports(rules["egress"], "to") == ANYWHERE


def test_the_hub_and_the_service_are_those_of_the_values():
    rules = policy("--set", "hub.podLabels.release=mine,binder.podLabels.release=mine")
    assert ports(rules["egress"], "to", HUB) == ports(rules["egress"], "to", BINDER) == ANYWHERE
    assert ports(rules["egress"], "to", {**HUB, "release": "mine"}) == ANYWHERE | {8081}


def test_only_its_pages_can_be_reached():
    assert ports(policy()["ingress"], "from") == {"http"}


def test_with_a_canary_it_may_open_the_canarys_server():
    rules = policy("-f", CHART / "ci/everything-values.yaml")
    assert ports(rules["egress"], "to", PROXY) == ANYWHERE | {80, 8000} | {
        3128
    }  # and networkPolicy.extraEgress


def test_the_ports_of_the_api_server_are_those_of_the_values():
    assert ports(policy("--set", "networkPolicy.apiServerPorts={16443}")["egress"], "to") == {53, 16443}


def test_it_can_be_left_out():
    assert not [o for o in render("--set", "networkPolicy.enabled=false") if o["kind"] == "NetworkPolicy"]
