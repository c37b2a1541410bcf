"""Starts the Hub, says when a launch will work, and ends everything when it is told to."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient, HTTPError

from binderhub_ext.local import copies, processes
from binderhub_ext.local.data_dir import DataDir
from binderhub_ext.local.failures import LocalFailure
from binderhub_ext.local.settings import Settings, clean_environment
from binderhub_ext.timing import Deadline

START_SECONDS = 90.0
"""The Hub and the service must answer within this time."""

STOP_SECONDS = 4.0
"""The Hub has this long to stop its servers in good order; then all are ended."""

HUB_CONFIG = Path(__file__).resolve().with_name("jupyterhub_config.py")

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# how JupyterHub, tornado and traitlets begin a log line: [E 2026-04-01 12:00:00.000 JupyterHub ...
_LOG_LINE = re.compile(r"\[([DIWEC]) \d")


def say(text: str) -> None:
    """Print a line at once; a reader that is gone is no reason to stop."""
    try:
        print(text, flush=True)
    except OSError:
        return


class Supervisor:
    """One run, from the first process to the last.

    Parameters
    ----------
    link : str
        The page to announce, once it answers.
    show_level : str
        Log lines of this level and above are printed; all go to the log file.
    """

    def __init__(self, settings: Settings, data_dir: DataDir, link: str, show_level: str = "ERROR") -> None:
        self.settings = settings
        self.data_dir = data_dir
        self.link = link
        self.shown = {level[0] for level in LEVELS[LEVELS.index(show_level) :]}
        self.log_path: Path = settings.root / "logs" / "hub.log"
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.hopeless = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal asks to stop.

        Raises
        ------
        LocalFailure
            When the Hub does not start, or ends by itself.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            # also where SIGINT is ignored, as a shell does for what it starts in the background
            loop.add_signal_handler(number, self._stop)
        guard = await self._start_guard()
        try:
            await self._serve(guard)
        finally:
            self.stopping.set()
            await self._end_everything()
            assert guard.stdin is not None
            guard.stdin.close()
            await guard.wait()

    def _stop(self) -> None:
        (self.hurry if self.stopping.is_set() else self.stopping).set()

    async def _start_guard(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "binderhub_ext.local.guard"),
            *(self.settings.run_id, str(self.settings.root / "servers"), self.settings.builder),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=[self.data_dir.lock],
        )

    async def _serve(self, guard: asyncio.subprocess.Process) -> None:
        # a pipe of our own: some versions of asyncio do not notice that a process ended while its children
        # hold the pipes open that asyncio made
        output, hubs_end = os.pipe()
        hub = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "binderhub_ext.local.start", "hub", "--config", str(HUB_CONFIG)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=hubs_end,
            stderr=hubs_end,
            cwd=self.settings.root,
            env=clean_environment()
            | self.settings.environment()
            | {processes.RUN: self.settings.run_id, "PYTHONUNBUFFERED": "1"},
            # Ctrl-C in a terminal reaches the supervisor alone, which stops the others in order
            start_new_session=True,
        )
        os.close(hubs_end)
        tasks = {
            "log": asyncio.create_task(self._copy_log(output)),
            "link": asyncio.create_task(self._announce()),
            "stop": asyncio.create_task(self.stopping.wait()),
            "hub": asyncio.create_task(hub.wait()),
            "guard": asyncio.create_task(guard.wait()),
        }
        try:
            watched = {tasks[name] for name in ("link", "stop", "hub", "guard")}
            while not tasks["stop"].done():
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                watched -= done
                if tasks["stop"] in done:
                    say("Stopping ...")
                elif tasks["hub"] in done:
                    raise LocalFailure(f"JupyterHub ended (exit code {hub.returncode}): see {self.log_path}")
                elif tasks["guard"] in done:
                    raise LocalFailure("the guard process was ended by something else")
                else:
                    tasks["link"].result()
        finally:
            self.stopping.set()
            if hub.returncode is None:
                hub.terminate()
                await self._patience(tasks["hub"])
            for name in ("link", "stop", "guard"):
                tasks[name].cancel()
            # the Hub's children hold its log open; they are ended now, and it is read to its end
            await self._end_everything()
            await asyncio.wait(tasks.values(), timeout=5)
            tasks["log"].cancel()

    async def _patience(self, ended: asyncio.Task[int | None]) -> None:
        hurry = asyncio.create_task(self.hurry.wait())
        await asyncio.wait({ended, hurry}, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()

    async def _end_everything(self) -> None:
        await asyncio.to_thread(processes.end_all, processes.RUN, self.settings.run_id)
        if self.settings.builder == "docker":
            from binderhub_ext.local import containers

            await asyncio.to_thread(containers.remove_all, self.settings.run_id)
        await asyncio.to_thread(copies.remove, self.settings.root / "servers")

    async def _copy_log(self, output: int) -> None:
        """Write what the Hub and its services say to the log file, and show the worst of it."""
        stream, show = asyncio.StreamReader(), False
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb")
        )
        with self.log_path.open("wb") as file:
            while chunk := await _read_line(stream):
                file.write(chunk)
                file.flush()
                line = chunk.decode("utf-8", "replace").rstrip("\n")
                match = _LOG_LINE.match(line)
                if match:
                    show = match[1] in self.shown
                elif "D" not in self.shown:
                    show = False  # the rest of a traceback is in the file
                if "Service binder exited" in line:  # while it starts; later the Hub starts it again
                    self.hopeless.set()
                if (show or "D" in self.shown) and not self.stopping.is_set():
                    say(line)
        transport.close()

    async def _announce(self) -> None:
        deadline = Deadline.after(START_SECONDS)
        # the service's own port first: the proxy logs an error for each look at a route that it has not yet
        client = AsyncHTTPClient()
        while not (deadline.expired or self.hopeless.is_set()):
            if await _listens(self.settings.service_port):
                try:
                    response = await client.fetch(self.link, request_timeout=5, raise_error=False)
                    if response.code == 200:
                        break
                except (OSError, HTTPError):
                    pass
            await asyncio.sleep(0.05)
        else:
            raise LocalFailure(f"the BinderHub service does not start: see {self.log_path}")
        say(f"Launch link: {self.link}")
        say("Nothing is isolated: what you launch runs with your rights. Launch only what you trust.")
        say("Ctrl-C stops everything.")


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, or a part of one that is too long for the reader's buffer."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as overrun:
        return await stream.readexactly(overrun.consumed)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
