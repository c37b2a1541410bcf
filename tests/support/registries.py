"""The metrics that each process of the project registers, as a process that imports its code has them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field

from .processes import ROOT

PROCESSES = {
    "service": "import binderhub_ext.app, binderhub_ext.web.build, binderhub_ext.launch.launch",
    "hub": "import binderhub_ext.kube.spawner",
    "watchdog": "import binderhub_ext.watchdog.app",
}

# prometheus_client has no public way to ask for the labels of a metric without samples
DUMP = """
import json
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
found = {}
for metric in set(REGISTRY._collector_to_names):
    if not isinstance(metric, MetricWrapperBase):
        continue
    values = {label: set() for label in metric._labelnames}
    for family in metric.collect():
        for sample in family.samples:
            for label in values:
                values[label].add(sample.labels[label])
    for suffix in suffixes.get(metric._type, []):
        labels = {label: sorted(known) for label, known in values.items()}
        found[metric._name + suffix] = labels | ({"le": []} if suffix == "_bucket" else {})
print(json.dumps(found))
"""


@dataclass
class Registered:
    """A metric.

    Attributes
    ----------
    labels : dict
        Label to the values that exist from the start; none when they come with the work.
    """

    processes: list[str] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)


def registered() -> dict[str, Registered]:
    """Return every metric of the project's processes, by the name of its samples."""
    found: dict[str, Registered] = {}
    for process, imports in PROCESSES.items():
        done = subprocess.run(
            [sys.executable, "-c", f"{imports}\n{DUMP}"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=True,
        )
        for name, labels in json.loads(done.stdout.splitlines()[-1]).items():
            metric = found.setdefault(name, Registered())
            metric.processes.append(process)
            metric.labels = labels
    return found
