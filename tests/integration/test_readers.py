"""Programs that read BinderHub's event stream today go on working, unmodified or in their own way of reading."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.scripted import spec


def node() -> str:
    return shutil.which("node") or str(ROOT / ".venv/node/bin/node")


@pytest.mark.parametrize("outcome", ["ready", "failed"])
async def test_the_npm_client_launches_from_node(hub, service, outcome):
    of = spec(name="npm", lines=2, say="Pulling") if outcome == "ready" else spec(name="npm", resolve="none")
    command = [node(), str(Path("tests/support/npm_reader.mjs")), service.url + "build/", f"test/{of}"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # the client itself logs to the console when a launch failed
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert events[-1]["phase"] == outcome
    assert not any("closed unexpectedly" in event.get("message", "") for event in events)
    if outcome == "ready":
        assert events[-1]["url"] and events[-1]["token"]
        assert [e["message"] for e in events if e["message"].startswith("line")] == ["line 0\n", "line 1\n"]


async def test_a_shell_that_greps_for_the_phase_sees_the_end(hub, service):
    url = service.build_url(name="grep", lines=1)
    grep = """grep --line-buffered '^data: ' | grep -m1 -E '"phase": "(ready|failed)"'"""
    script = f"""curl -sN -m 60 -H 'Accept: text/event-stream' "$1" | {grep}"""
    bash = await asyncio.create_subprocess_exec(
        "bash", "-c", script, "-", url, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    line = await asyncio.wait_for(bash.stdout.readline(), 60)
    os.killpg(bash.pid, signal.SIGKILL)
    await bash.wait()
    event = json.loads(line.decode().removeprefix("data: "))
    assert event["phase"] == "ready" and re.match(r"http://.*/user/", event["url"])


async def test_a_program_that_reads_line_by_line_opens_the_server(hub, service):
    """Reads as BinderHub's example for programs does: each line that begins with data, split at its first colon."""
    import requests

    def launch() -> dict[str, str]:
        answer = requests.get(
            service.build_url(name="lines", lines=1),
            stream=True,
            headers={"Accept": "text/event-stream"},
            timeout=60,
        )
        answer.raise_for_status()
        for line in answer.iter_lines():
            text = line.decode("utf8", "replace")
            if text.startswith("data:"):
                event = json.loads(text.split(":", 1)[1])
                if event.get("phase") in {"ready", "failed"}:
                    answer.close()
                    return event
        raise AssertionError("the server never became ready")

    ready = await asyncio.to_thread(launch)
    opened = await asyncio.to_thread(requests.get, f"{ready['url']}?token={ready['token']}", timeout=30)
    assert opened.status_code == 200 and opened.json()["token"] == ready["token"]
