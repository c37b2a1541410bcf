"""What `/health` says of the sweep; the rest is asked of a real service."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from binderhub_ext.web.health import HealthHandler


@pytest.mark.parametrize(
    "problem, check", [("", {"ok": True}), ("ValueError: odd", {"ok": False, "why": "ValueError: odd"})]
)
def test_a_sweep_that_fails_is_told_and_keeps_nobody_from_launching(problem, check):
    settings = {"binderhub_ext_sweeper": SimpleNamespace(problem=problem)}
    expected = {"service": "Sweep for leftovers", "_ignore_failure": True, **check}
    assert HealthHandler._sweep(SimpleNamespace(settings=settings)) == expected
