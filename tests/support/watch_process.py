"""A watchdog in a process of its own, as the chart's container starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .watch_chart import ROOT
from .watch_hub_process import free_port


@contextlib.asynccontextmanager
async def watchdog_process(
    folder: Path, container: dict[str, Any], config: dict[str, Any], *arguments: str, **environment: str
) -> AsyncIterator[str]:
    """Run a watchdog while the block lasts; yields the address of its pages.

    Parameters
    ----------
    folder : Path
        Gets its configuration, its evidence, and its log `watchdog.log`.
    container : dict
        The container of the chart's Deployment: its command is run.
    config : dict
        What the chart's ConfigMap holds; folder and port are replaced by the test's.
    """
    port = free_port()
    given = {**config["WatchdogApp"], "evidence_dir": str(folder), "port": port, "ip": "127.0.0.1"}
    (folder / "watchdog_config.json").write_text(json.dumps({"WatchdogApp": given}))
    with (folder / "watchdog.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *container["command"][1:]),
            *("--config", str(folder / "watchdog_config.json"), *arguments),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        status = await asyncio.wait_for(process.wait(), 20)
    assert status == 0, (folder / "watchdog.log").read_text()


def scaled_values(speed: float) -> list[str]:
    """Return the chart's values: the defaults, at this speed."""
    seconds = {
        "interval": 10, "cooldown": 600, "settle": 60, "grace": 20,
        "bounds.start_stuck": 60, "bounds.stop_stuck": 60, "bounds.ghost": 90, "bounds.hub_silent": 60,
        "bounds.orphan": 300,
    }  # fmt: skip
    if speed == 1:
        # the Hub of this test is not up for five minutes yet: its grace is the only thing that is not the default
        return ["--set", "watchdog.grace=20"]
    scaled = [f"--set-json=watchdog.{name}={value / speed}" for name, value in seconds.items()]
    return [*scaled, "--set-json=watchdog.timeout=2.0"]  # a busy machine answers no faster
