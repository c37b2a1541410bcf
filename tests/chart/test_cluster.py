"""The chart on a real cluster: the server takes it, its pods pass Pod Security, and nothing of it stays behind."""

import asyncio
import contextlib
import json
import secrets
import subprocess

import pytest
import yaml

from tests.support.cluster import kubectl, needs_cluster, new_namespace
from tests.support.watch_chart import CHART, CI_VALUES, IMAGE, helm

pytestmark = [needs_cluster, pytest.mark.timeout(180)]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
MONITORING = {
    "ServiceMonitor": "servicemonitors",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
}
RELEASE = "care"


@pytest.fixture
async def namespace():
    async with new_namespace(**RESTRICTED) as namespace:
        yield namespace


@pytest.fixture
def priority_class():
    """The class of ci/everything-values.yaml belongs to the upstream chart; this one is the test's own."""
    name = f"binderhub-ext-{secrets.token_hex(4)}"
    kubectl("create", "priorityclass", name, "--value=10")
    yield name
    kubectl("delete", "priorityclass", name)


@pytest.fixture
def monitoring_kinds():
    """The kinds of the Prometheus operator: the cluster's own, else such as take any object, for this test."""
    missing = [
        kind for kind, plural in MONITORING.items() if f"{plural}.monitoring.coreos.com" not in known()
    ]
    definitions = yaml.safe_dump_all([definition(kind) for kind in missing])
    if missing:
        apply("create", definitions)
        kubectl("wait", "--for=condition=Established", "--timeout=30s",
                *(f"crd/{MONITORING[kind]}.monitoring.coreos.com" for kind in missing))  # fmt: skip
    yield
    if missing:
        apply("delete", definitions)


def known():
    return kubectl("api-resources", "--api-group=monitoring.coreos.com", "--output=name").split()


def apply(verb, text):
    subprocess.run(["kubectl", verb, "-f", "-"], input=text, text=True, timeout=60, check=True)


def definition(kind):
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{MONITORING[kind]}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": MONITORING[kind], "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def run_helm(verb, namespace, *arguments):
    """Run Helm on the release; it must succeed, and the server must not warn of anything."""
    chart = [CHART, *IMAGE] if verb in ("install", "upgrade") else []
    command = (verb, RELEASE, *chart, "--namespace", namespace.name, *arguments)
    done = await asyncio.to_thread(helm, *command)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr


async def pods_are_made(namespace):
    """Wait until the watchdog's Deployment has all its pods; no pod was refused on the way."""
    (deployment,) = await namespace.items("deployments")
    selector, wanted = deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["replicas"]

    def ours(pods):
        pods = [p for p in pods if selector.items() <= p["metadata"]["labels"].items()]
        return [p for p in pods if "deletionTimestamp" not in p["metadata"]]

    with contextlib.suppress(AssertionError):  # the refusals say more than the number of pods does
        await namespace.until("pods", lambda pods: len(ours(pods)) == wanted, "the pods are made", 10)
    assert [e["message"] for e in await namespace.items("events", fields="reason=FailedCreate")] == []
    pods = ours(await namespace.items("pods"))
    assert len(pods) == wanted
    return pods


async def kinds_there(namespace):
    """Return the names of all monitoring objects, by kind; a kind that the server does not know has none."""
    found = {}
    for kind, plural in MONITORING.items():
        status, answer = (
            await namespace.ask("GET", plural) if f"{plural}.monitoring.coreos.com" in known() else (404, {})
        )
        found[kind] = [o["metadata"]["name"] for o in answer["items"]] if status == 200 else []
    return found


def everything(namespace):
    """Return the names of all objects in the namespace, of every kind that can be listed; Events apart."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    kinds = sorted(k for k in kinds if k not in ("events", "events.events.k8s.io"))
    shown = kubectl("get", ",".join(kinds), "--namespace", namespace.name, "--output=name")
    return set(shown.split())


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
async def test_the_server_takes_the_release_and_its_pods(values, namespace, priority_class, monitoring_kinds):
    given = yaml.safe_load(values.read_text()) or {}
    own_class = (
        ["--set", f"watchdog.priorityClassName={priority_class}"] if "everything" in values.stem else []
    )
    await run_helm("install", namespace, "-f", values, *own_class)
    if given.get("watchdog", {}).get("enabled", True):
        pods = await pods_are_made(namespace)
        assert {p["spec"].get("priorityClassName") for p in pods} == (
            {priority_class} if own_class else {None}
        )
    prefix = given.get("fullnameOverride", "care-binderhub-ext")
    watchdog = [f"{prefix}-watchdog"] if given.get("watchdog", {}).get("enabled", True) else []
    assert await kinds_there(namespace) == {
        "ServiceMonitor": watchdog,
        "PodMonitor": [f"{prefix}-binder", f"{prefix}-hub"],
        "PrometheusRule": [f"{prefix}-alerts"],
    }


async def test_where_the_kinds_of_monitoring_are_unknown_their_objects_are_left_out(namespace):
    if known():
        pytest.skip("this cluster knows the kinds of the Prometheus operator")
    await run_helm("install", namespace)
    await pods_are_made(namespace)
    demanded = await asyncio.to_thread(
        helm,
        "upgrade",
        RELEASE,
        CHART,
        *IMAGE,
        "--namespace",
        namespace.name,
        "--set",
        "monitoring.rules.enabled=true",
    )
    assert demanded.returncode != 0
    assert 'no matches for kind "PrometheusRule"' in demanded.stderr


async def test_a_changed_value_starts_a_new_pod_and_a_rollback_brings_the_old_configuration_back(namespace):
    await run_helm("install", namespace)
    (first,) = await pods_are_made(namespace)
    lease = await namespace.get("leases", "care-binderhub-ext-watchdog")
    lease["spec"]["holderIdentity"] = "somebody"
    await namespace.ask("PUT", "leases", lease["metadata"]["name"], lease)

    async def interval():
        config = await namespace.get("configmaps", "care-binderhub-ext-watchdog")
        return json.loads(config["data"]["watchdog_config.json"])["WatchdogApp"]["interval"]

    await run_helm("upgrade", namespace, "--set", "watchdog.interval=20")
    assert await interval() == 20

    def another(pods):
        return {p["metadata"]["uid"] for p in pods} - {first["metadata"]["uid"]}

    await namespace.until("pods", another, "the pod with the new configuration")
    held = await namespace.get("leases", lease["metadata"]["name"])
    assert held["spec"]["holderIdentity"] == "somebody", "an upgrade takes the Lease from nobody"
    await run_helm("rollback", namespace, "1")
    assert await interval() == 10


async def test_all_values_can_be_switched_on_and_off_in_a_release_that_runs(
    namespace, priority_class, monitoring_kinds
):
    await run_helm("install", namespace)
    before = everything(namespace)
    own_class = f"watchdog.priorityClassName={priority_class}"
    await run_helm("upgrade", namespace, "-f", CHART / "ci/everything-values.yaml", "--set", own_class)
    assert len(await pods_are_made(namespace)) == 2
    assert "poddisruptionbudget.policy/binder-care-watchdog" in everything(namespace)
    await run_helm("upgrade", namespace, "--reset-values")
    await pods_are_made(namespace)
    gone = {name for name in everything(namespace) if "binder-care" in name and not controlled(name)}
    assert gone == set()
    assert {name for name in before if not controlled(name)} <= everything(namespace)


def controlled(name):
    """Whether a controller makes and removes these, in its own time."""
    return name.startswith(("pod/", "replicaset.apps/", "endpoints/", "endpointslice.", "secret/sh.helm."))


async def test_an_uninstalled_release_leaves_nothing(namespace):
    # the server's own: its certificates and the account `default`
    await namespace.until("configmaps", bool, "the server's own objects")
    before = everything(namespace)
    await run_helm("install", namespace)
    await pods_are_made(namespace)
    assert len(everything(namespace)) > len(before) + 8
    await run_helm("uninstall", namespace)
    for plural in ("deployments", "replicasets", "pods", "endpoints"):
        await namespace.until(plural, lambda found: not found, f"no {plural} are left")
    await namespace.until("leases", lambda found: not found, "no Lease is left")
    assert everything(namespace) <= before
