"""Each alert: promtool's unit tests, a summary, a section of the runbook; expressions use metrics that exist."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

import binderhub_ext.watchdog.watch  # noqa: F401  (creates the label values)
from binderhub_ext.metrics import watchdog as watchdog_metrics
from tests.support.watch_chart import CHART, ROOT, one, render

RUNBOOK = "https://example.org/runbook"
TESTS = ROOT / "tests/chart/alerts_test.yaml"

# what the service and the Hub expose, beside BinderHub's own (binderhub.builder) and the watchdog's
ELSEWHERE = {
    "binderhub_launch_time_seconds_bucket",
    "binderhub_build_count_total",
    "binderhub_inprogress_builds",
    "binderhub_inprogress_launches",
    "binderhub_ext_stage_seconds_bucket",
    "binderhub_ext_failures_total",
    "binderhub_ext_watchers",
    "binderhub_ext_reconnects_total",
    "binderhub_ext_resumed_launches_total",
    "binderhub_ext_queue_length",
    "binderhub_ext_hub_breaker_state",
    "binderhub_ext_cleanup_backlog",
    "binderhub_ext_cleanup_oldest_seconds",
    "binderhub_ext_launch_outcomes_total",
    "binderhub_ext_reflector_age_seconds",
    "binderhub_ext_reflector_restarts_total",
    "binderhub_ext_hub_oldest_pending_seconds",
}


def own_metrics():
    """Return every sample name that the watchdog exposes."""
    names = set()
    for metric in vars(watchdog_metrics).values():
        if isinstance(metric, (Counter, Gauge, Histogram)):
            names |= {sample.name for family in metric.collect() for sample in family.samples}
    return names


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


def test_alerts_and_dashboard_use_only_metrics_that_exist():
    known = ELSEWHERE | own_metrics()
    for where, expression in expressions():
        used = set(re.findall(r"\bbinderhub_\w+", expression))
        assert used, f"{where}: no metric"
        assert used <= known, f"{where}: {used - known}"


def test_labels_in_expressions_have_values_that_exist():
    from binderhub_ext.watchdog.decisions import Action
    from binderhub_ext.watchdog.signs import Sign

    for _, expression in expressions():
        for name, values in re.findall(r'(sign|action|side)!?=~?"([^"]+)"', expression):
            known = {
                "sign": {sign.value for sign in Sign},
                "action": {action.value for action in Action} | {"start", "stop"},
                "side": {"hub", "api_server", "service"},
            }[name]
            assert set(values.split("|")) <= known


def test_the_dashboard_is_json_that_grafana_takes():
    config = one(render(), "ConfigMap", "-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads(config["data"]["binderhub-ext.json"])
    assert dashboard["title"] and dashboard["uid"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(places) == len(set(places))
