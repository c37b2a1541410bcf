"""The values for the upstream chart: only such as its templates read, and the same words everywhere."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.support.watch_chart import CHART, ROOT

VALUES = sorted((ROOT / "helm-chart/values").glob("*.yaml"))
FACTS = yaml.safe_load((ROOT / "tests/chart/upstream_values.yaml").read_text())
UPSTREAM = yaml.safe_load((ROOT / "helm-chart/values/upstream.yaml").read_text())


def paths(tree, above=()):
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from paths(value, (*above, name))
        else:
            yield (*above, name)


def known(path):
    chart, rest = ("jupyterhub", path[1:]) if path[0] == "jupyterhub" else ("binderhub", path)
    text = ".".join(rest)
    return any(text == fact or (fact.endswith(".*") and text.startswith(fact[:-2])) for fact in FACTS[chart])


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name)
def test_every_value_is_one_that_the_upstream_chart_reads(values):
    for path in paths(yaml.safe_load(values.read_text())):
        assert known(path), f"{values.name} sets {'.'.join(path)}, which nothing reads"


def test_the_fact_list_names_nothing_that_no_file_sets():
    given = {".".join(p) for file in VALUES for p in paths(yaml.safe_load(file.read_text()))}
    for chart, facts in FACTS.items():
        for fact in facts:
            start = ("jupyterhub." if chart == "jupyterhub" else "") + fact.removesuffix(".*")
            assert any(path == start or path.startswith(start + ".") for path in given), fact


def test_the_hub_configuration_is_python_and_switches_the_spawner_on():
    (snippet,) = UPSTREAM["jupyterhub"]["hub"]["extraConfig"].values()
    compile(snippet, "extraConfig", "exec")
    assert "binderhub_ext.kube.configure(c)" in snippet
    # upstream's own snippets are called 0-... and 00-..., and they are run in the order of their names
    assert min(UPSTREAM["jupyterhub"]["hub"]["extraConfig"]) > "00-binder"


def test_the_watchdogs_token_is_the_one_that_the_upstream_chart_makes():
    chart = yaml.safe_load((CHART / "values.yaml").read_text())
    (service,) = UPSTREAM["jupyterhub"]["hub"]["services"]
    assert chart["hub"]["token"]["secretKey"] == f"hub.services.{service}.apiToken"
    (role,) = UPSTREAM["jupyterhub"]["hub"]["loadRoles"].values()
    assert role["services"] == [service]
    assert {"list:users", "read:servers", "read:metrics"} <= set(role["scopes"])


def test_images_have_the_version_of_the_chart():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert UPSTREAM["image"]["tag"] == UPSTREAM["jupyterhub"]["hub"]["image"]["tag"] == version


def test_images_are_named_as_they_are_built_and_their_registry_is_left_to_the_operator():
    press = yaml.safe_load((ROOT / "helm-chart/chartpress.yaml").read_text())["charts"][0]
    built = {press["imagePrefix"] + image for image in press["images"]}
    named = [UPSTREAM["image"]["name"], UPSTREAM["jupyterhub"]["hub"]["image"]["name"]]
    assert {name.removeprefix("REGISTRY/") for name in named} == built
    for name in named:
        # a reference with capitals is refused at once: forgetting to write one's own cannot pull from elsewhere
        assert re.match(r"REGISTRY/[a-z0-9-]+$", name)


def test_ingress_annotations_say_what_the_tested_nginx_settings_say():
    annotations = yaml.safe_load((ROOT / "helm-chart/values/ingress-nginx.yaml").read_text())["ingress"][
        "annotations"
    ]
    directives = dict(
        re.findall(
            r"^(proxy_\w+) (\S+);$", (ROOT / "helm-chart/values/nginx-location.conf").read_text(), flags=re.M
        )
    )
    for name, value in annotations.items():
        directive = name.removeprefix("nginx.ingress.kubernetes.io/").replace("-", "_")
        assert directives[directive].removesuffix("s") == value


def test_the_check_against_a_checked_out_chart_finds_what_is_not_read(tmp_path):
    """With a chart of the test's own: one path is read, all others are not."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "values.yaml").write_text(json.dumps({"image": {"name": "x", "tag": "y"}}))
    (tmp_path / "templates/a.yaml").write_text("{{ .Values.image.name }}")
    script = ROOT / "tools/check_upstream_values.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no template reads image.tag" in done.stdout
    assert "image.name" not in done.stdout


def test_dockerfiles_start_what_the_upstream_chart_expects():
    service = (ROOT / "helm-chart/images/binderhub-ext/Dockerfile").read_text()
    assert 'ENTRYPOINT ["tini", "--", "python", "-m", "binderhub_ext"]' in service
    assert 'CMD ["--config", "/etc/binderhub/config/binderhub_config.py"]' in service
    hub = (ROOT / "helm-chart/images/hub-ext/Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d*$", hub, flags=re.M), "the last user must be a number that is not root"
    press = yaml.safe_load((ROOT / "helm-chart/chartpress.yaml").read_text())
    for image in press["charts"][0]["images"].values():
        assert (ROOT / "helm-chart" / image["dockerfilePath"]).exists()
