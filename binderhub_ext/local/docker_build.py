"""The Docker builder: repo2docker makes a container image from a repository."""

from __future__ import annotations

import importlib.util
import json
import sys

from binderhub_ext.local import command, containers, git
from binderhub_ext.local.failures import LocalFailure
from binderhub_ext.local.settings import clean_environment
from binderhub_ext.upstream import BuildPhase, LocalBuildExecutor


def check_engine() -> None:
    """Raise `LocalFailure` unless a Docker engine answers and repo2docker is installed."""
    containers.client()
    if importlib.util.find_spec("repo2docker") is None:
        raise LocalFailure("repo2docker is missing: install jupyter-repo2docker with uv or pip")


class DockerBuild(LocalBuildExecutor):
    """Run repo2docker, as BinderHub's own local builder does."""

    @classmethod
    def image_exists(cls, image_name: str) -> bool:
        return containers.has_image(image_name)

    def arguments(self) -> list[str]:
        """Return repo2docker's command line."""
        # a path would be built as it is, whatever the ref
        address = "file://" + self.repo_url if self.repo_url.startswith("/") else self.repo_url
        return [
            *(sys.executable, "-m", "repo2docker"),
            *("--ref", self.ref, "--image", self.image_name),
            *("--no-clean", "--no-run", "--json-logs"),
            *("--user-name", "jovyan", "--user-id", "1000"),
            address,
        ]

    def submit(self) -> None:
        """Build the image. Blocking."""
        self.progress_status(BuildPhase.RUNNING)
        try:
            code = command.run(
                self.arguments(),
                stop=self.stop_event,
                on_line=self._report,
                env=clean_environment() | {"GIT_TERMINAL_PROMPT": "0"},
            )
        except command.Stopped:
            self.progress_log("The build was stopped.\n")
            code = 1
        self.progress_status(BuildPhase.FAILED if code else BuildPhase.BUILT)

    def _report(self, line: str) -> None:
        """Pass on a line of repo2docker's, which is JSON except when something goes badly wrong."""
        try:
            entry = json.loads(line)
            message, phase = str(entry["message"]), str(entry.get("phase", "building"))
        except (ValueError, TypeError, KeyError):
            message, phase = line, "unknown"
        # `failed` ends a launch's event stream: that is for the service to say
        phase = "building" if phase in {"failed", "failure", "ready", "built"} else phase
        self.progress_log(git.without_secrets(message), phase=phase)
