"""What this package knows of binderhub's internals, for 0.1.0 (PyPI) and main alike.

The only room that imports `binderhub` beside `app.py`, which subclasses its application.
"""

from binderhub.builder import (
    BUILD_COUNT,
    BUILD_TIME,
    BUILDS_INPROGRESS,
    LAUNCH_COUNT,
    LAUNCH_TIME,
    LAUNCHES_INPROGRESS,
)
from binderhub.repoproviders import RepoProvider

from binderhub_ext.upstream.builders import BuildSink
from binderhub_ext.upstream.compat import (
    IS_MAIN,
    BaseHandler,
    BuildExecutor,
    BuildPhase,
    DefaultBuild,
    LocalBuildExecutor,
    UpstreamLauncher,
    binder_version,
)
from binderhub_ext.upstream.facade import Upstream, health_checks
from binderhub_ext.upstream.repositories import Repository, repository_failure

__all__ = [
    "BUILDS_INPROGRESS",
    "BUILD_COUNT",
    "BUILD_TIME",
    "IS_MAIN",
    "LAUNCHES_INPROGRESS",
    "LAUNCH_COUNT",
    "LAUNCH_TIME",
    "BaseHandler",
    "BuildExecutor",
    "BuildPhase",
    "BuildSink",
    "DefaultBuild",
    "LocalBuildExecutor",
    "RepoProvider",
    "Repository",
    "Upstream",
    "UpstreamLauncher",
    "binder_version",
    "health_checks",
    "repository_failure",
]
