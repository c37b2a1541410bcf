"""What 0.1.0 lacks of main, so that the rest of the package sees one BinderHub."""

from __future__ import annotations

import json
import threading
from enum import Enum
from typing import Any

import binderhub.base
import binderhub.build
import binderhub.builder
import binderhub.launcher
from tornado.ioloop import IOLoop
from traitlets import Any as AnyTrait
from traitlets import Dict, Unicode
from traitlets.config import LoggingConfigurable

IS_MAIN: bool = hasattr(binderhub.build, "BuildExecutor")
"""True with binderhub main (2020-09 and later), False with 0.1.0."""


class BuildPhase(Enum):
    """What a builder reports of its state: the values of main's `ProgressEvent.BuildStatus`."""

    PENDING = "pending"
    RUNNING = "running"
    BUILT = "built"
    FAILED = "failed"
    UNKNOWN = "unknown"


if IS_MAIN:
    BuildExecutor = binderhub.build.BuildExecutor
else:

    class BuildExecutor(LoggingConfigurable):  # type: ignore[no-redef]
        """Main's interface of a builder, for 0.1.0: what local builders derive from.

        `submit` runs in a thread, reports with `progress_status` and `progress_log`, and
        returns when the build has ended.
        """

        q = AnyTrait(help="Receives what `progress` reports, in the main thread: an object with `put`.")
        name = Unicode(help="Unique name of what is built.")
        repo_url = Unicode(help="URL of the repository.")
        ref = Unicode(help="Resolved ref.")
        image_name = Unicode(help="Full name of the image to build, with its tag.")
        git_credentials = Unicode("", config=True, help="Output of a git credential helper.")
        push_secret = Unicode("", config=True, help="Secret for pushing to the registry.")
        builder_info = Dict(config=True, help="Facts about the builder for /versions.")

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.main_loop = IOLoop.current()
            self.stop_event = threading.Event()

        def submit(self) -> None:
            raise NotImplementedError

        def stream_logs(self) -> None:
            """Main's builders follow a pod's log here; local ones report it from `submit`."""

        def cleanup(self) -> None:
            """Remove what the build left behind."""

        def stop(self) -> None:
            """Stop watching the build."""
            self.stop_event.set()


DefaultBuild = binderhub.build.KubernetesBuildExecutor if IS_MAIN else binderhub.build.Build
"""What builds images where nothing else is configured."""


class LocalBuildExecutor(BuildExecutor):  # type: ignore[misc,valid-type]
    """A builder of this package: the same two reports with both versions of binderhub."""

    def progress_status(self, status: BuildPhase) -> None:
        """Report a change of state. Safe to call from any thread."""
        self.main_loop.add_callback(self.q.put, status)

    def progress_log(self, message: str, phase: str = "building") -> None:
        """Report one line of the log (it ends in a newline). Safe to call from any thread."""
        self.main_loop.add_callback(self.q.put, json.dumps({"phase": phase, "message": message}))

    @classmethod
    def image_exists(cls, image_name: str) -> bool:
        """Say whether this image is there already. Blocking; the service asks in a thread."""
        raise NotImplementedError


if IS_MAIN:
    from binderhub.quota import LaunchQuotaExceeded as LaunchQuotaExceeded
else:

    class LaunchQuotaExceeded(Exception):  # type: ignore[no-redef]
        """Never raised: 0.1.0 has no quota classes."""

        status = message = ""


binder_version: str = str(getattr(binderhub, "__version__", "0.1.0"))

UpstreamLauncher = binderhub.launcher.Launcher
"""Where operators' `c.Launcher` settings are defined."""


class BaseHandler(binderhub.base.BaseHandler):
    """BinderHub's handler; in 0.1.0 with the checks that main has, which let everything pass."""

    if not IS_MAIN:
        _have_build_token = False

        def check_build_token(self, build_token: str | None, provider_spec: str) -> None:
            """0.1.0 has no build tokens."""

        def check_rate_limit(self) -> None:
            """0.1.0 has no rate limit."""

        def get_badge_base_url(self) -> str:
            return ""
