"""A real run: Hub, proxy, service, builds, Jupyter servers, kernels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.support.local_run import LocalRun, make_repository, running, server_api


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with running(tmp_path_factory.mktemp("run") / "data") as started:
        yield started


def ready(events: list[dict]) -> dict:
    assert events[-1]["phase"] == "ready", events
    return events[-1]


def link_to(run: LocalRun, repository: Path, ref: str = "HEAD") -> str:
    base = run.wait_for_link().partition("/v2/")[0]
    return f"{base}/v2/git/{quote(str(repository), safe='')}/{ref}"


async def execute(url: str, token: str, code: str) -> str:
    """Run code in a new kernel of the server, and return what it prints."""
    _, kernel = await asyncio.to_thread(server_api, url, token, "api/kernels", "POST", {})
    request = HTTPRequest(
        f"ws{url[4:]}api/kernels/{kernel['id']}/channels", headers={"Authorization": f"token {token}"}
    )
    socket = await websocket_connect(request)
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
    }
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await socket.write_message(json.dumps(message))
    printed = ""
    # the reply and the output come on channels of their own; the last word on the latter is "idle"
    missing = {"execute_reply", "idle"}
    while missing and (raw := await asyncio.wait_for(socket.read_message(), 60)):
        answer = json.loads(raw)
        if answer["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if answer["msg_type"] == "stream":
            printed += answer["content"]["text"]
        elif answer["msg_type"] == "error":
            printed += "\n".join(answer["content"]["traceback"])
        missing.discard(answer["content"].get("execution_state", answer["msg_type"]))
    socket.close()
    return printed.strip()


def test_exactly_one_line_is_the_launch_link(run):
    links = [line for line in run.lines if "Launch link" in line]
    assert len(links) == 1 and links[0].startswith("Launch link: http://127.0.0.1:")
    assert links[0].endswith("/HEAD?labpath=demo.ipynb")
    assert any("Nothing is isolated" in line for line in run.lines)
    at_start = run.lines[: run.lines.index("Ctrl-C stops everything.")]
    assert not any(line.startswith("[") for line in at_start), "no logs unless something is wrong"


async def test_the_link_ends_in_a_server_whose_kernel_has_the_packages(run):
    server = ready(run.launch())
    status, found = server_api(server["url"], server["token"], "api/contents/demo.ipynb")
    assert status == 200
    code = "".join(found["content"]["cells"][1]["source"])
    assert "Launched!" in await execute(server["url"], server["token"], code)
    printed = await execute(
        server["url"],
        server["token"],
        "import os, sys; print(sys.prefix, os.getcwd(), os.environ['BINDER_REPO_URL'])",
    )
    prefix, folder, repo_url = printed.split()
    assert prefix.startswith(str(run.data_dir / "images")) and folder.startswith(
        str(run.data_dir / "servers")
    )
    assert repo_url == str(run.data_dir / "demo")


def test_a_server_wants_its_token(run):
    server = ready(run.launch())
    assert server_api(server["url"], "wrong", "api/contents")[0] == 403
    assert server_api(server["url"], server["token"], "api/contents")[0] == 200
    arguments = [" ".join(process.cmdline()) for process in run.family()]
    assert not any(server["token"] in each for each in arguments), (
        "other users of the machine can see arguments"
    )


def test_a_repository_without_requirements_launches_in_seconds(run, tmp_path):
    make_repository(tmp_path / "plain", {"a.txt": "a"})
    started = time.monotonic()
    events = run.launch(link_to(run, tmp_path / "plain"))
    ready(events)
    assert time.monotonic() - started < 10


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def first_connection(run: LocalRun, known: set[str]) -> float:
    """Return the moment (`time.monotonic`) at which the next Jupyter Server accepted its first connection."""
    while True:
        family = psutil.Process(run.process.pid).children(recursive=True)
        with contextlib.suppress(psutil.Error):
            words = {word for process in family for word in process.cmdline()}
            for word in words - known:
                if word.startswith("--ServerApp.port="):
                    known.add(word)
                    port = int(word.partition("=")[2])
                    while not accepts(port):
                        time.sleep(0.002)
                    return time.monotonic()
        time.sleep(0.01)


def test_a_launch_is_ready_within_150_ms_of_the_servers_first_accepted_connection(run, tmp_path):
    make_repository(tmp_path / "quick", {"a.txt": "a"})
    ready(run.launch(link_to(run, tmp_path / "quick")))
    known = {word for process in run.family() for word in process.cmdline()}
    delays = []
    with ThreadPoolExecutor() as threads:
        for _ in range(7):
            accepted = threads.submit(first_connection, run, known)
            ready(run.launch(link_to(run, tmp_path / "quick")))
            delays.append(time.monotonic() - accepted.result(timeout=10))
    assert statistics.median(delays) <= 0.15, delays


def test_two_servers_do_not_share_files_and_leave_none(run, tmp_path):
    make_repository(tmp_path / "shared", {"a.txt": "original", "sub/b.txt": "b"})
    link = link_to(run, tmp_path / "shared")
    one, two = ready(run.launch(link)), ready(run.launch(link))
    body = {"type": "file", "format": "text", "content": "changed"}
    assert server_api(one["url"], one["token"], "api/contents/a.txt", "PUT", body)[0] == 200
    assert server_api(two["url"], two["token"], "api/contents/a.txt")[1]["content"] == "original"
    third = ready(run.launch(link))
    assert server_api(third["url"], third["token"], "api/contents/a.txt")[1]["content"] == "original"
    before = set((run.data_dir / "servers").iterdir())
    user = one["url"].rstrip("/").rsplit("/", 1)[1]
    assert run.hub("DELETE", f"/users/{user}")[0] in (202, 204)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and len(set((run.data_dir / "servers").iterdir())) == len(before):
        time.sleep(0.05)
    (removed,) = before - set((run.data_dir / "servers").iterdir())
    assert not [process for process in run.family() if str(removed) in " ".join(process.cmdline())]


def test_a_server_that_dies_leaves_no_files(run, tmp_path):
    make_repository(tmp_path / "dies", {"a.txt": "original"})
    before = set((run.data_dir / "servers").iterdir())
    ready(run.launch(link_to(run, tmp_path / "dies")))
    (added,) = set((run.data_dir / "servers").iterdir()) - before
    for process in run.family():
        if "local.start server" in " ".join(process.cmdline()) and str(added) in " ".join(process.cmdline()):
            process.kill()
    deadline = time.monotonic() + 10
    while added.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_the_commits_of_a_private_copy_are_there_and_new_ones_stay_in_it(run, tmp_path):
    head = make_repository(tmp_path / "history", {"a.txt": "1"})
    server = ready(run.launch(link_to(run, tmp_path / "history")))
    code = (
        "import subprocess as s; g=['git','-c','user.name=a','-c','user.email=a@b'];"
        "s.run(g+['commit','-q','--allow-empty','-m','x'],check=True);"
        "print(s.check_output(g+['log','--format=%H'],text=True))"
    )
    printed = (await execute(server["url"], server["token"], code)).split()
    assert len(printed) == 2 and printed[1] == head
    again = ready(run.launch(link_to(run, tmp_path / "history")))
    assert (await execute(again["url"], again["token"], "!git log --format=%H")).split() == [head]


def test_a_wrong_ref_and_a_wrong_repository_end_readably(run, tmp_path):
    for link, code in [
        (link_to(run, run.data_dir / "demo", "nowhere"), "ref.not_found"),
        (link_to(run, tmp_path / "nothing"), "repo.not_found"),
        (link_to(run, Path("/a/../b")), "spec.invalid"),
    ]:
        events = run.launch(link)
        assert events[-1]["phase"] == "failed" and events[-1]["error"]["code"] == code, events[-1]


def test_requirements_that_do_not_install_end_readably(run, tmp_path):
    make_repository(tmp_path / "broken", {"requirements.txt": "cowsay==999.1\n"})
    events = run.launch(link_to(run, tmp_path / "broken"))
    assert events[-1]["phase"] == "failed" and events[-1]["error"]["code"] == "build.failed"
    assert any("cowsay==999.1" in event.get("message", "") for event in events[:-1])


def test_the_hub_refuses_a_server_that_is_not_from_binderhub(run):
    assert run.hub("POST", "/users/somebody")[0] == 201
    status, answer = run.hub("POST", "/users/somebody/server", {"image": "x"})
    assert (status, answer["message"]) == (400, "Invalid user options")
    run.hub("DELETE", "/users/somebody")


def listening(run: LocalRun) -> dict[str, set[str]]:
    """Return the addresses on which the run's processes listen; the service's under its own key."""
    found: dict[str, set[str]] = {"service": set(), "others": set()}
    for process in run.family():
        key = "service" if "local.start service" in " ".join(process.cmdline()) else "others"
        found[key] |= {
            each.laddr.ip for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN
        }
    return found


def test_hub_proxy_and_servers_listen_on_this_machine_only(run):
    ready(run.launch())
    assert listening(run)["others"] == {"127.0.0.1"}


def test_the_service_listens_on_this_machine_only(run):
    assert listening(run)["service"] == {"127.0.0.1"}


def test_the_servers_of_people_who_left_are_stopped(tmp_path):
    with running(tmp_path / "data", "--cull-after", "2") as run:
        ready(run.launch())
        assert run.users()
        deadline = time.monotonic() + 90
        while run.users():
            assert time.monotonic() < deadline, run.users()
            time.sleep(0.2)
        assert not list((run.data_dir / "servers").iterdir())


def test_an_environment_that_nobody_uses_is_removed_at_the_next_start_and_one_that_is_used_is_not(tmp_path):
    data = tmp_path / "data"
    with running(data) as run:
        ready(run.launch())
        (manifest,) = (data / "images").glob("*/manifest.json")
        os.utime(manifest, (0, 0))
        ready(run.launch())
        run.stop()
    with running(data, "--keep-images", "1") as run:
        assert manifest.exists() and not any("Removed" in line for line in run.lines)
        run.stop()
    os.utime(manifest, (0, 0))
    with running(data, "--keep-images", "1") as run:
        assert not manifest.exists()
        (line,) = (line for line in run.lines if "Removed" in line)
        assert manifest.parent.name in line and "not used for 1 day:" in line
        ready(run.launch())
