"""The chart as Helm renders it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm-chart/binderhub-ext"
IMAGE = ("--set", "image.name=registry.example.org/k8s-hub-ext")
"""What has no default."""

CI_VALUES = sorted(CHART.glob("ci/*-values.yaml"))


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm; the test is skipped where it is missing."""
    program = shutil.which("helm") or shutil.which("helm", path=str(ROOT / ".venv/bin"))
    if program is None:
        pytest.skip("Helm is missing: run tools/helm.sh")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def render(*arguments: str | Path, release: str = "care", namespace: str = "binder") -> list[dict[str, Any]]:
    """Return the objects that the chart makes."""
    done = helm("template", release, CHART, "--namespace", namespace, *IMAGE, *arguments)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def one(objects: list[dict[str, Any]], kind: str, ending: str = "") -> dict[str, Any]:
    """Return the object of this kind whose name ends so; there must be exactly one."""
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, [o["metadata"]["name"] for o in found]
    return found[0]
