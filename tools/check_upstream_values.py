#!/usr/bin/env python3
"""Compare what we believe of the upstream charts' values with checked-out charts.

    tools/check_upstream_values.py BINDERHUB_CHART [JUPYTERHUB_CHART]

Each argument is the folder of a chart (with `templates/` and `values.yaml`). Every path of
`tests/chart/upstream_values.yaml` must be read by a template (or handed on whole, as the Hub's configuration is),
and every default that is there must be of a kind that ours can replace.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

FACTS = Path(__file__).resolve().parents[1] / "tests/chart/upstream_values.yaml"


def default_of(values: Any, path: list[str]) -> tuple[bool, Any]:
    """Return whether the chart's own values know the path, and its default."""
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return False, None
        values = values[name]
    return True, values


def is_read(chart: Path, path: list[str]) -> bool:
    """Return whether a template or a file of the chart names the path, or a part of it that holds it."""
    templates = [p for p in chart.rglob("*") if p.is_file() and p.suffix in (".yaml", ".tpl", ".txt", ".py")]
    texts = [p.read_text() for p in templates if p.name not in ("values.yaml", "schema.yaml", "Chart.yaml")]
    names = [".".join(path[:length]) for length in range(len(path), 0, -1)]
    for name in names:
        if len(name.split(".")) == 1 and len(path) > 1:
            # only the whole first level: handed on with `range` or `toYaml`, or through a variable
            pattern = rf"\.Values\.{re.escape(name)}(?![\w.])"
        else:
            pattern = rf"(\.Values\.{re.escape(name)}(?![\w])|get_config\(\s*\"{re.escape(name)}\")"
        if any(re.search(pattern, text) for text in texts):
            return True
    return False


def check(name: str, chart: Path, paths: list[str]) -> list[str]:
    """Return what is wrong."""
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    wrong = []
    for text in paths:
        path = text.removesuffix(".*").split(".")
        known, _ = default_of(defaults, path)
        if not known:
            wrong.append(f"{name}: values.yaml does not know {text}")
        if not is_read(chart, path):
            wrong.append(f"{name}: no template reads {text}")
    return wrong


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    facts = yaml.safe_load(FACTS.read_text())
    wrong = [
        line
        for (name, paths), chart in zip(facts.items(), arguments, strict=False)
        for line in check(name, Path(chart), paths)
    ]
    print("\n".join(wrong) or "Everything in our values is read by the charts.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
