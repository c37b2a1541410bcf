"""Each alert: promtool's unit tests, a summary, a section of the runbook; expressions use metrics that exist."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from binderhub_ext.kube.rounds import Outcome
from tests.support.promql import uses
from tests.support.registries import registered
from tests.support.watch_chart import CHART, ROOT, one, render

RUNBOOK = "https://example.org/runbook"
TESTS = ROOT / "tests/chart/alerts_test.yaml"

# labels that Prometheus adds to every sample of a pod
OF_THE_TARGET = {"namespace", "pod"}

# values of labels that come with the work, and not when the process starts
LATER = {
    "binderhub_launch_time_seconds_bucket": {"status": {"success", "failure"}},
    "binderhub_ext_reflector_watch_restarts_total": {
        "kind": {"pods", "events"},
        "reason": {outcome.value for outcome in Outcome},
    },
    "binderhub_ext_reflector_age_seconds": {"kind": {"pods", "events"}},
}


@pytest.fixture(scope="module")
def metrics():
    """What the processes of this project register, by the names of the samples."""
    return registered()


@pytest.fixture(scope="module")
def rules():
    spec = one(
        render("--set", "monitoring.rules.enabled=true", "--set", f"monitoring.rules.runbookUrl={RUNBOOK}"),
        "PrometheusRule",
    )["spec"]
    return spec


@pytest.fixture(scope="module")
def alerts(rules):
    return [rule for group in rules["groups"] for rule in group["rules"]]


def promtool(*arguments):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is missing: Debian's package prometheus has it")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_promtool_finds_the_rules_right_and_their_unit_tests_pass(rules, tmp_path):
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    shutil.copy(TESTS, tmp_path)
    checked = promtool("check", "rules", tmp_path / "rules.json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", tmp_path / TESTS.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_a_unit_test_that_fires_it_and_one_that_does_not(alerts):
    firing, silent = set(), set()
    for case in yaml.safe_load(TESTS.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            (firing if test["exp_alerts"] else silent).add(test["alertname"])
            assert case["input_series"], "a case without series proves nothing"
    names = {alert["alert"] for alert in alerts}
    assert firing == names
    assert silent == names


def test_a_rule_that_is_broken_fails_its_unit_test(alerts, rules, tmp_path):
    """Every alert, made impossible and made unconditional: both are noticed."""
    shutil.copy(TESTS, tmp_path)
    for change in ("never", "always"):
        broken = json.loads(json.dumps(rules))
        for group in broken["groups"]:
            for rule in group["rules"]:
                rule["expr"] = "vector(1) > 2" if change == "never" else "vector(1)"
                rule.pop("for", None)
        (tmp_path / "rules.json").write_text(json.dumps(broken))
        told = promtool("test", "rules", tmp_path / TESTS.name)
        assert told.returncode != 0
        for alert in alerts:
            word = "fires" if change == "never" else "does not fire"
            assert f"name: {alert['alert']} {word}," in told.stdout + told.stderr


def test_each_alert_has_a_summary_a_severity_and_its_section_of_the_runbook(alerts):
    sections = re.findall(r"^## (Binder\w+)$", (ROOT / "docs/runbook.md").read_text(), flags=re.M)
    assert sorted(sections) == sorted(alert["alert"] for alert in alerts)
    for alert in alerts:
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("info", "warning", "critical")


def test_without_an_address_of_the_runbook_no_alert_links_to_one():
    rules = one(render("--set", "monitoring.rules.enabled=true"), "PrometheusRule")["spec"]
    annotations = [set(rule["annotations"]) for group in rules["groups"] for rule in group["rules"]]
    assert annotations and all(names == {"summary"} for names in annotations)


def test_the_runbook_links_only_to_sections_that_it_has():
    text = (ROOT / "docs/runbook.md").read_text()
    sections = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, flags=re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= sections


def test_an_alert_can_be_left_out_and_labelled():
    rules = one(render("-f", CHART / "ci/everything-values.yaml"), "PrometheusRule")["spec"]
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert "BinderOrphans" not in {alert["alert"] for alert in alerts}
    assert all(alert["labels"]["team"] == "notebooks" for alert in alerts)


def expressions():
    for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((CHART / "files/dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def series():
    for case in yaml.safe_load(TESTS.read_text())["tests"]:
        for item in case["input_series"]:
            yield case["name"], item["series"]


EXPRESSIONS = [*expressions(), *series()]


@pytest.mark.parametrize("where, expression", EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_metrics_and_labels_are_ones_that_a_process_registers(metrics, where, expression):
    """Also those of the alerts' unit tests, which would pass with a metric that is made up."""
    found = uses(expression)
    assert found, "no metric"
    for use in found:
        assert use.metric in metrics, f"nothing registers {use.metric}"
        labels = metrics[use.metric].labels
        assert use.grouped | set(use.matched) <= set(labels) | OF_THE_TARGET
        for label, values in use.matched.items():
            if label in labels and label != "le":
                known = {*labels[label], *LATER.get(use.metric, {}).get(label, ())}
                assert not known or values <= known, f"{label} is never {values - known}"


def test_legends_name_labels_that_are_left_after_grouping():
    for panel in json.loads((CHART / "files/dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            left = set.union(*(use.grouped for use in uses(target["expr"])))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, panel["title"]


def test_the_dashboards_choice_of_a_namespace_reads_a_metric_that_exists(metrics):
    for choice in json.loads((CHART / "files/dashboard.json").read_text())["templating"]["list"]:
        for metric, label in re.findall(r"label_values\((\w+), (\w+)\)", choice["query"]):
            assert label in {*metrics[metric].labels, *OF_THE_TARGET}


def test_the_dashboard_is_json_that_grafana_takes():
    config = one(render(), "ConfigMap", "-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads(config["data"]["binderhub-ext.json"])
    assert dashboard["title"] and dashboard["uid"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(places) == len(set(places))
