"""What the NetworkPolicy lets through: what the watchdog looks at, and nothing else."""

from tests.support.watch_chart import CHART, one, render

EVERYTHING = CHART / "ci/everything-values.yaml"


def allowed(rules, side, port, labels=None):
    """Return whether the rules of a NetworkPolicy let this through; `labels` are the other pod's, None: no pod."""

    def is_peer(peer):
        return labels is not None and peer["podSelector"]["matchLabels"].items() <= labels.items()

    return any(
        port in [item["port"] for item in rule["ports"]]
        and (side not in rule or any(map(is_peer, rule[side])))
        for rule in rules
    )


HUB = {"app": "jupyterhub", "component": "hub", "release": "binder"}
BINDER = {"app": "binder", "component": "binder", "release": "binder"}
PROXY = {"app": "jupyterhub", "component": "proxy", "release": "binder"}


def test_the_network_policy_lets_the_watchdog_reach_what_it_looks_at_and_nothing_else():
    policy = one(render(), "NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert allowed(policy["egress"], "to", 8081, HUB)
    assert allowed(policy["egress"], "to", 8585, BINDER)
    assert all(allowed(policy["egress"], "to", port) for port in (53, 443, 6443))
    assert not allowed(policy["egress"], "to", 8081, BINDER)
    assert not allowed(policy["egress"], "to", 8585, HUB)
    assert not any(allowed(policy["egress"], "to", port) for port in (22, 80, 3128, 8000, 8080, 8081, 8585))
    assert not allowed(policy["egress"], "to", 8000, PROXY)
    assert allowed(policy["ingress"], "from", "http")
    assert sum(len(rule["ports"]) for rule in policy["ingress"]) == 1


def test_with_a_canary_the_network_policy_lets_it_open_its_server():
    egress = one(render("-f", EVERYTHING), "NetworkPolicy")["spec"]["egress"]
    assert all(allowed(egress, "to", port, PROXY) for port in (80, 443, 8000))
    assert allowed(egress, "to", 3128), "networkPolicy.extraEgress"
    assert not allowed(egress, "to", 8888, PROXY)


def test_the_network_policy_can_be_left_out_and_has_the_ports_of_the_api_server():
    assert not [o for o in render("--set", "networkPolicy.enabled=false") if o["kind"] == "NetworkPolicy"]
    moved = render("--set", "networkPolicy.apiServerPorts={16443}")
    egress = one(moved, "NetworkPolicy")["spec"]["egress"]
    assert allowed(egress, "to", 16443)
    assert not allowed(egress, "to", 6443)
