"""Repositories, images and builds of the benchmarks, in whichever service runs them.

A repository whose name begins with `there` has its image already. Others are built:

    lines=N, every=S    N lines, S seconds apart, each with the moment at which it was logged
    hold=NAME           nothing is logged before the file NAME is there
    process=S           the build is a process that takes S seconds, one for each time it is started

A build ends in failure, so that it leads to no launch, unless `works=1`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from binderhub_ext.upstream import IS_MAIN, BuildExecutor, BuildPhase, LocalBuildExecutor
from tests.support.scripted import STATE, ScriptedProvider, counted, options_of

if IS_MAIN:
    from binderhub.build import ProgressEvent
    from binderhub.registry import DockerRegistry


class Provider(ScriptedProvider):
    name = "Git"  # one that BinderHub's telemetry knows


def image_is_there(image: str) -> bool:
    """Whether a repository of this image needs no build."""
    return "repos-2etest-2fthere" in image


@dataclass
class SharedLog:
    """The log of one build, for all threads that follow it."""

    lines: list[str] = field(default_factory=list)
    ended: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, options: dict[str, str]) -> None:
        """Be the build."""
        while "hold" in options and not (STATE / options["hold"]).exists():
            time.sleep(0.01)
        begin, every = time.monotonic(), float(options.get("every", 0))
        for i in range(int(options.get("lines", 0))):
            time.sleep(max(0.0, begin + i * every - time.monotonic()))
            event = {"phase": "building", "message": f"{i} {time.monotonic():.6f}\n"}
            with self.changed:
                self.lines.append(json.dumps(event))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self) -> None:
        """Return when the build has ended."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended)

    def follow(self) -> Any:
        """Yield all lines, from the first."""
        at = 0
        while True:
            with self.changed:
                self.changed.wait_for(lambda seen=at: self.ended or len(self.lines) > seen)
                new, ended = self.lines[at:], self.ended
            yield from new
            at += len(new)
            if ended:
                return


_LOGS: dict[str, SharedLog] = {}
_LOCK = threading.Lock()


class Build(BuildExecutor if IS_MAIN else LocalBuildExecutor):  # type: ignore[misc,valid-type]
    """A builder as BinderHub's own for Kubernetes is one.

    `submit` starts the build unless it runs already (there: the pod exists) and watches it,
    `stream_logs` follows its log, each in a thread.
    """

    if not IS_MAIN:
        # without a registry class to configure, the builder is asked
        image_exists = staticmethod(image_is_there)

    def _status(self, status: BuildPhase) -> None:
        if IS_MAIN:
            value = ProgressEvent.BuildStatus(status.value)
            self.progress(ProgressEvent.Kind.BUILD_STATUS_CHANGE, value)
        else:
            self.progress_status(status)

    def _line(self, line: str) -> None:
        if IS_MAIN:
            self.progress(ProgressEvent.Kind.LOG_MESSAGE, line)
        else:
            self.main_loop.add_callback(self.q.put, line)

    def submit(self) -> None:
        options = options_of(self.repo_url)
        self._status(BuildPhase.RUNNING)
        if "process" in options:
            counted("build " + self.repo_url)
            wait = f"import time; time.sleep({float(options['process'])})"
            subprocess.run([sys.executable, "-S", "-c", wait], check=True)
        else:
            self._shared(options).wait()
        # the words that end a launch of BinderHub's come in the log
        if "works" in options:
            self._status(BuildPhase.BUILT)
        else:
            self._line(json.dumps({"phase": "failed", "message": "as it was meant to\n"}))
            self._status(BuildPhase.FAILED)

    def _shared(self, options: dict[str, str]) -> SharedLog:
        with _LOCK:
            log = _LOGS.get(self.name)
            if log is None:
                log = _LOGS[self.name] = SharedLog()
                counted("build " + self.repo_url)
                threading.Thread(target=log.write, args=(options,), daemon=True).start()
        return log

    def stream_logs(self) -> None:
        options = options_of(self.repo_url)
        if "process" not in options:
            for line in self._shared(options).follow():
                self._line(line)


if IS_MAIN:

    class Registry(DockerRegistry):
        """Knows its images without being asked over a network."""

        async def get_image_manifest(self, image: str, tag: str) -> dict[str, Any] | None:
            return {"tag": tag} if image_is_there(image) else None

        async def get_credentials(self, image: str, tag: str) -> dict[str, str]:
            return {}
