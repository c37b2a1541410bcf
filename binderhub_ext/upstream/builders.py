"""BinderHub's builders: how they are made, and what they report."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from binderhub_ext.upstream.compat import IS_MAIN, BuildExecutor, BuildPhase
from binderhub_ext.upstream.repositories import Repository, image_and_tag


class BuildSink(Protocol):
    """Who hears what a builder reports; called in the main thread."""

    def on_status(self, status: BuildPhase) -> None:
        """The builder's state changed."""

    def on_log(self, line: str) -> None:
        """One line of the log: JSON as repo2docker writes it, or any text."""


class _Reports:
    """The `q` of a builder: turns both versions' reports into calls of a sink."""

    # 0.1.0 reports a pod's phase; a pod that succeeded is deleted, and only then is it done
    _PODS: ClassVar[dict[str, BuildPhase]] = {
        "Pending": BuildPhase.PENDING,
        "Running": BuildPhase.RUNNING,
        "Deleted": BuildPhase.BUILT,
        "Failed": BuildPhase.FAILED,
    }

    def __init__(self, sink: BuildSink) -> None:
        self._sink = sink

    def put(self, report: Any) -> None:
        if isinstance(report, BuildPhase):
            self._sink.on_status(report)
        elif isinstance(report, str):
            self._sink.on_log(report)
        elif isinstance(report, dict):
            if report["kind"] == "log":
                self._sink.on_log(report["payload"])
            elif report["payload"] != "Succeeded":
                self._sink.on_status(self._PODS.get(report["payload"], BuildPhase.UNKNOWN))
        elif getattr(report.kind, "name", report.kind) in {"LOG_MESSAGE", "log"}:
            self._sink.on_log(report.payload)
        else:
            self._sink.on_status(BuildPhase(report.payload.value))


async def make_builder(
    app: Any, build_class: Any, repository: Repository, sink: BuildSink, binder_url: str
) -> Any:
    """Make a builder: an object with `submit`, `stream_logs`, `cleanup` (all blocking) and `stop`."""
    settings = app.tornado_app.settings
    wanted = {
        "q": _Reports(sink),
        "name": repository.build_name,
        "repo_url": repository.repo_url,
        "ref": repository.ref,
        "image_name": repository.image_name,
        "git_credentials": repository.provider.git_credentials,
    }
    if not IS_MAIN and not issubclass(build_class, BuildExecutor):
        return build_class(
            api=settings["kubernetes_client"],
            namespace=settings["build_namespace"],
            push_secret=settings["docker_push_secret"] if settings["use_registry"] else None,
            builder_image=settings["builder_image_spec"],
            memory_limit=settings["build_memory_limit"],
            docker_host=settings["build_docker_host"],
            node_selector=settings["build_node_selector"],
            appendix=settings["appendix"].format(binder_url=binder_url, repo_url=repository.repo_url),
            log_tail_lines=settings["log_tail_lines"],
            **wanted,
        )
    build = build_class(parent=app, **wanted)
    if not settings["use_registry"]:
        build.push_secret = ""
    elif IS_MAIN:
        credentials = await settings["registry"].get_credentials(*image_and_tag(repository.image_name))
        if credentials:
            build.registry_credentials = credentials
    return build
