"""The chart renders, names its objects from its helpers, refuses wrong values, and runs restricted."""

import json
import re

import pytest
import yaml

from binderhub_ext.watchdog.app import WatchdogApp
from binderhub_ext.watchdog.signs import Bounds
from tests.support.watch_chart import CHART, CI_VALUES, ROOT, helm, one, render

EVERYTHING = CHART / "ci/everything-values.yaml"


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_lint_finds_nothing(values):
    done = helm("lint", CHART, "--strict", "-f", values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_every_object_carries_the_charts_names_and_labels(values):
    objects = render("-f", values, release="care")
    given = yaml.safe_load(values.read_text()) or {}
    prefix = given.get("fullnameOverride") or "care-binderhub-ext"
    assert objects
    for item in objects:
        assert item["metadata"]["name"].startswith(prefix + "-")
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "binderhub-ext"
        assert labels["app.kubernetes.io/instance"] == "care"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("binderhub-ext-")


def test_no_template_spells_a_name_by_itself():
    for template in CHART.glob("templates/*.yaml"):
        for line in template.read_text().splitlines():
            if re.match(r"^  name: ", line):
                assert 'include "binderhub-ext.' in line, f"{template.name}: {line}"


def test_two_releases_in_one_namespace_share_no_object():
    first, second = (
        {
            (o["kind"], o["metadata"]["name"])
            for o in render("-f", CHART / "ci/default-values.yaml", release=name)
        }
        for name in ("one", "two")
    )
    assert not first & second


def test_a_very_long_release_name_still_gives_valid_names():
    for item in render(release="a-release-name-that-is-as-long-as-helm-lets-it-be-ok"):
        assert len(item["metadata"]["name"]) <= 63


def test_selectors_find_the_pod():
    objects = render("-f", EVERYTHING)
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        one(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        one(objects, "Service")["spec"]["selector"],
        one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert labels["hub.jupyter.org/network-access-hub"] == "true"


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("watchdog.cooldown=-1", ["cooldown", "60"]),
        ("watchdog.cooldwon=600", ["cooldwon"]),
        ("watchdog.interval=soon", ["interval", "number"]),
        ("watchdog.restartOn={ghost,goblin}", ["restartOn", "ghost"]),
        ("watchdog.restartOn={orphan}", ["restartOn"]),
        ("watchdog.bounds.ghost=0", ["ghost", "0"]),
        ("watchdog.replicas=0", ["replicas", "1"]),
        ("watchdog.canary.spec=https://github.com/a/b", ["spec"]),
        ("hub.apiUrl=http://hub:8081", ["apiUrl"]),
        ("hub.token.secretKey=", ["secretKey"]),
        ("monitoring.rules.enabled=maybe", ["enabled", "auto"]),
        ("image.tag=", ["tag"]),
        ("nosuchvalue=1", ["nosuchvalue"]),
    ],
)
def test_wrong_values_are_refused_and_the_value_is_named(wrong, words):
    done = helm("template", "care", CHART, "--set", wrong)
    assert done.returncode != 0
    assert "don't meet the specifications of the schema" in done.stderr
    for word in words:
        assert word in done.stderr


def leaves(tree, path=()):
    for name, value in tree.items():
        yield (*path, name), value
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))


def test_every_value_has_a_comment_and_stands_in_the_schema():
    """The comment stands above the value; a value whose children all have one needs none."""
    text = (CHART / "values.yaml").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())
    lines, path, commented = text.splitlines(), [], set()
    for number, line in enumerate(lines):
        found = re.match(r"^( *)([A-Za-z_]+):", line)
        if found:
            depth = len(found[1]) // 2
            path[depth:] = [found[2]]
            if lines[number - 1].strip().startswith("#"):
                commented.add(tuple(path))
    for where, value in leaves(yaml.safe_load(text)):
        node = schema
        for name in where:
            node = node.get("properties", {}).get(name) if "properties" in node else {"free": True}
            assert node is not None, f"{'.'.join(where)} is not in the schema"
        group = isinstance(value, dict) and value and "properties" in node
        upwards = [where[:length] for length in range(1, len(where) + 1)]
        free = any("properties" not in at(schema, up) for up in upwards[:-1])
        assert group or free or where in commented, f"{'.'.join(where)} has no comment"


def at(schema, where):
    for name in where:
        schema = schema.get("properties", {}).get(name, {})
    return schema


def test_the_schema_knows_no_value_that_does_not_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(node, tree, where):
        for name, child in node.get("properties", {}).items():
            if (*where, name) == ("global",):
                continue
            assert name in tree, f"{'.'.join((*where, name))} is in the schema only"
            compare(child, tree[name] if isinstance(tree[name], dict) else {}, (*where, name))

    compare(json.loads((CHART / "values.schema.json").read_text()), values, ())


def test_every_object_of_the_schema_is_strict_and_complete():
    """A value that is misspelled is refused wherever it stands, and so is one that was taken out with `null`."""

    def check(node, where):
        if "properties" in node:
            assert node.get("additionalProperties") is False, f"{where} takes names that do not exist"
            assert set(node["required"]) == set(node["properties"]) - {"global"}, where
        for name, child in node.get("properties", {}).items():
            check(child, f"{where}.{name}")

    check(json.loads((CHART / "values.schema.json").read_text()), "values")


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_pods_pass_the_restricted_pod_security_standard(values):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    for item in render("-f", values):
        if item["kind"] != "Deployment":
            continue
        pod = item["spec"]["template"]["spec"]
        assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC", "initContainers"))
        allowed = {
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        }
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] != 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert not context.get("privileged") and "hostPort" not in container["ports"][0]


def test_the_token_stands_in_no_object():
    for item in render("-f", EVERYTHING):
        assert item["kind"] != "Secret"
    container = one(render(), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    token = next(e for e in container["env"] if e["name"] == "JUPYTERHUB_API_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["key"] == "hub.services.binderhub-ext-watchdog.apiToken"


def test_the_rendered_configuration_is_one_that_the_watchdog_takes(tmp_path):
    config = one(render("-f", EVERYTHING), "ConfigMap", "-watchdog")["data"]["watchdog_config.json"]
    (tmp_path / "watchdog_config.json").write_text(config)
    app = WatchdogApp()
    app.initialize(["--config", str(tmp_path / "watchdog_config.json")])
    for name, value in json.loads(config)["WatchdogApp"].items():
        assert app.has_trait(name), f"the watchdog has no trait {name}"
        assert getattr(app, name) == value
    assert app.delete_orphans is True
    assert app.hub_selector == "app=jupyterhub,component=hub"


def test_every_setting_of_the_watchdog_reaches_it(tmp_path):
    def other(value):
        return (
            not value
            if isinstance(value, bool)
            else value + 61
            if isinstance(value, int)
            else f"http://x{value}"
        )

    def trait(name):
        return re.sub("([A-Z])", r"_\1", name).lower()

    settings = yaml.safe_load((CHART / "values.yaml").read_text())["watchdog"]
    plain = {name: other(value) for name, value in settings.items() if isinstance(value, (bool, int))}
    plain |= {"enabled": True, "restartOn": ["ghost"]}
    canary = {name: other(value) for name, value in settings["canary"].items()} | {"spec": "gh/a/b/HEAD"}
    bounds = {name: other(value) for name, value in settings["bounds"].items()}
    changed = {"watchdog": {**plain, "bounds": bounds, "canary": canary}}
    (tmp_path / "values.json").write_text(json.dumps(changed))
    objects = render("-f", tmp_path / "values.json")
    config = json.loads(one(objects, "ConfigMap", "-watchdog")["data"]["watchdog_config.json"])["WatchdogApp"]
    assert one(objects, "Deployment")["spec"]["replicas"] == plain.pop("replicas")
    del plain["enabled"]
    for name, value in [*plain.items(), *((f"canary_{name}", value) for name, value in canary.items())]:
        assert config[trait(name)] == value, name
    assert config["bounds"] == bounds


def test_the_charts_defaults_are_the_watchdogs_own():
    rendered = json.loads(one(render(), "ConfigMap", "-watchdog")["data"]["watchdog_config.json"])[
        "WatchdogApp"
    ]
    app = WatchdogApp()
    assert rendered.pop("bounds") == {
        name: getattr(Bounds(), name) for name in app.traits()["bounds"]._per_key_traits
    }
    assert sorted(rendered.pop("restart_on")) == app.restart_on
    for name in ("service_url", "lease_name", "evidence_dir"):  # what only the chart can know
        rendered.pop(name)
    assert {name: getattr(app, name) for name in rendered} == rendered


def test_monitoring_objects_are_left_out_where_their_kinds_are_unknown():
    def kinds(*more):
        return {o["kind"] for o in render(*more)}

    monitoring = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert not kinds() & monitoring
    known = [f"monitoring.coreos.com/v1/{kind}" for kind in monitoring]
    assert monitoring <= kinds("--api-versions", ",".join(known))
    assert (
        not kinds(
            "--api-versions",
            ",".join(known),
            "--set",
            "monitoring.rules.enabled=false",
            "--set",
            "monitoring.serviceMonitor.enabled=false",
        )
        & monitoring
    )


def test_only_its_own_lease_can_be_read_and_changed():
    objects = render()
    config = json.loads(one(objects, "ConfigMap", "-watchdog")["data"]["watchdog_config.json"])["WatchdogApp"]
    rules = [rule for rule in one(objects, "Role")["rules"] if "leases" in rule["resources"]]
    by_name = {verb: rule.get("resourceNames") for rule in rules for verb in rule["verbs"]}
    assert by_name == {"get": [config["lease_name"]], "update": [config["lease_name"]]}


def test_a_dry_run_may_not_delete_pods():
    role = one(render("-f", CHART / "ci/dry-run-values.yaml"), "Role")
    assert all("delete" not in rule["verbs"] for rule in role["rules"])


def test_one_replica_has_no_disruption_budget():
    assert "PodDisruptionBudget" not in {o["kind"] for o in render()}


def test_an_image_that_was_not_named_is_asked_for():
    done = helm("template", "care", CHART)
    assert done.returncode != 0
    assert "image.name is not set" in done.stderr
    assert helm("template", "care", CHART, "--set", "watchdog.enabled=false").returncode == 0


def test_images_and_chart_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert chart["appVersion"] == values["image"]["tag"]
    assert f'version="{chart["appVersion"]}"' in (ROOT / "setup.py").read_text()
