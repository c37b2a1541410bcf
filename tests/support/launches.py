"""What launches say, for tests of those who listen."""

from __future__ import annotations

from typing import Any


def stage(name: str, elapsed: float, message: str = "", **more: Any) -> dict[str, Any]:
    """Return an event of the launch's own."""
    phase = {"building": "building", "launching": "launching", "failed": "failed"}.get(name, "waiting")
    return {"phase": phase, "message": message or f"{name} ...\n", "stage": name, "elapsed": elapsed, **more}


def log(*lines: str) -> list[dict[str, Any]]:
    """Return the events of a build's log."""
    return [{"phase": "building", "message": line + "\n"} for line in lines]


def building(*lines: str) -> list[dict[str, Any]]:
    """Return a launch that is in the middle of its build."""
    return [stage("resolving", 0.0), stage("checking", 0.4), stage("building", 1.0), *log(*lines)]


def failed(code: str = "build.failed", **more: Any) -> dict[str, Any]:
    """Return the last event of a launch that failed."""
    error = {
        "code": code,
        "title": "The image could not be built",
        "detail": "requirements.txt, line 3",
        "hint": "Mend the file, then try again.",
        "retryable": True,
        "reference": "ab12cd34",
        **more,
    }
    return stage("failed", 9.0, "it failed\n", error=error)
