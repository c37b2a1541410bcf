"""However it ends, nothing is left running."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from tests.support.local_run import LocalRun, make_repository, running, server_api


def start_everything(run: LocalRun) -> None:
    """A server with a kernel, and a background process that left its terminal's session."""
    server = run.launch()[-1]
    assert server["phase"] == "ready", server
    url, token = server["url"], server["token"]
    assert server_api(url, token, "api/kernels", "POST", {})[0] == 201
    marker = f"3600.{run.process.pid}"
    body = {"type": "file", "format": "text", "content": f"setsid sleep {marker} & disown\n"}
    assert server_api(url, token, "api/contents/.bashrc", "PUT", body)[0] in (200, 201, 400)
    for process in run.family():
        if "local.start server" in " ".join(process.cmdline()):
            # what a notebook's `!setsid sleep & ` leaves: no parent, a session of its own, the server's environment
            psutil.Popen(
                ["sh", "-c", f"setsid sleep {marker} & "], env=process.environ(), start_new_session=True
            ).wait()


def assert_nothing_is_left(run: LocalRun, timeout: float = 10) -> None:
    assert run.wait_until_gone(timeout) == []
    marker = f"3600.{run.process.pid}"
    assert not [each for each in psutil.process_iter(["cmdline"]) if marker in (each.info["cmdline"] or [])]


def test_control_c_in_a_terminal_stops_everything(tmp_path):
    with running(tmp_path / "data") as run:
        start_everything(run)
        started = time.monotonic()
        assert run.stop(signal.SIGINT, group=True) == 0
        assert time.monotonic() - started < 12
        assert_nothing_is_left(run, timeout=1)
        assert run.lines[-1] == "Stopping ..."
        assert not (tmp_path / "data" / "servers").exists()


def test_sigterm_stops_everything_in_the_middle_of_a_build(tmp_path):
    mark = tmp_path / "mark"
    setup = f"import time; open({str(mark)!r}, 'w').write('x'); time.sleep(3600)\n"
    make_repository(tmp_path / "slow", {"setup.py": setup})
    with running(tmp_path / "data", "--repo", str(tmp_path / "slow")) as run:
        import threading

        def watch() -> None:
            try:
                run.launch()
            except OSError:
                return  # the stream ends with the service

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert time.monotonic() < deadline, run.hub_log()[-2000:]
            time.sleep(0.05)
        assert run.stop(signal.SIGTERM) == 0
        assert_nothing_is_left(run, timeout=1)
        watcher.join(10)


def test_a_closed_terminal_stops_everything(tmp_path):
    with running(tmp_path / "data") as run:
        assert run.stop(signal.SIGHUP, group=True) == 0
        assert_nothing_is_left(run, timeout=1)


@pytest.mark.parametrize("group", [False, True])
def test_sigkill_leaves_nothing_running(tmp_path, group):
    with running(tmp_path / "data") as run:
        start_everything(run)
        run.stop(signal.SIGKILL, group=group)
        assert_nothing_is_left(run)
    # and the data directory is free again
    with running(tmp_path / "data") as again:
        assert again.stop() == 0


def test_a_hub_that_crashes_is_said_in_one_line(tmp_path):
    with running(tmp_path / "data") as run:
        start_everything(run)
        (hub,) = [each for each in run.family() if "local.start hub" in " ".join(each.cmdline())]
        printed = len(run.lines)
        hub.kill()
        assert run.process.wait(20) == 1
        assert_nothing_is_left(run, timeout=1)
        time.sleep(0.2)
        (line,) = run.lines[printed:]
        assert line.startswith("binderhub_ext.local: JupyterHub ended (exit code -9): see ")


def test_stopping_while_it_starts_leaves_nothing_running(tmp_path):
    run = LocalRun(tmp_path / "data")
    try:
        deadline = time.monotonic() + 30
        while not run.hub_log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert run.stop(signal.SIGINT, group=True) == 0
        assert_nothing_is_left(run, timeout=1)
    finally:
        run.clean_up()
