"""The command line: checks everything that can be wrong before it starts anything."""

from __future__ import annotations

import argparse
import asyncio
import errno
import importlib.util
import math
import secrets
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from binderhub_ext.errors import LaunchError
from binderhub_ext.local import demo_repository, git, proxy, pruning, refs
from binderhub_ext.local.data_dir import DataDir, default_path
from binderhub_ext.local.failures import LocalFailure
from binderhub_ext.local.settings import Settings
from binderhub_ext.timing import SYSTEM_CLOCK

PROGRAM = "binderhub_ext.local"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Run a JupyterHub with BinderHub on this machine, without Docker or Kubernetes, and print a "
        "launch link. Nothing is isolated: launch only repositories that you trust.",
    )
    add = result.add_argument
    add(
        "--port",
        type=_port,
        default=8585,
        help="public port on 127.0.0.1; 0 takes a free one (default: 8585)",
    )
    add(
        "--repo", metavar="URL_OR_PATH", help="git repository of the launch link (default: a demo repository)"
    )
    add("--ref", default="HEAD", help="branch, tag or commit of the launch link (default: HEAD)")
    add("--data-dir", type=Path, metavar="DIR", help=f"images, logs, secrets (default: {default_path()})")
    add(
        "--builder",
        choices=("process", "docker"),
        default="process",
        help="process: environments and servers are processes of this user (default); "
        "docker: repo2docker and containers, where a Docker engine runs",
    )
    add(
        "--log-level",
        type=str.upper,
        choices=LEVELS,
        default="ERROR",
        help="what to show of the logs, which are in DIR/logs; DEBUG shows everything (default: ERROR)",
    )
    add(
        "--cull-after",
        type=int,
        default=3600,
        metavar="SECONDS",
        help="stop servers that nobody has used for so long (default: 3600)",
    )
    add(
        "--keep-images",
        type=_days,
        default=30.0,
        metavar="DAYS",
        help="remove, at the start, environments from which no server was started for so long; "
        "for the builder `process` (default: 30)",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 when it was asked to stop, 1 with one line why not."""
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except LocalFailure as failure:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0  # before there was anything to stop
    return 0


def _run(options: argparse.Namespace) -> None:
    check_packages()
    if shutil.which("git") is None:
        raise LocalFailure("git is not installed: install git")
    command = proxy.find_command()
    if options.builder == "docker":
        from binderhub_ext.local.docker_build import check_engine

        check_engine()
    with _reserved_ports(options.port) as ports:
        data_dir = DataDir(options.data_dir or default_path())
        try:
            if options.builder == "process":
                _prune(data_dir, options.keep_images)
            repository, query = _repository(options.repo, data_dir)
            asyncio.run(check_ref(repository, options.ref))
            port, hub_port, proxy_port, service_port = ports.numbers
            settings = Settings(
                data_dir=str(data_dir.path),
                run_id=secrets.token_hex(16),
                port=port,
                hub_port=hub_port,
                proxy_port=proxy_port,
                service_port=service_port,
                proxy_command=tuple(command),
                builder=options.builder,
                verbose=options.log_level == "DEBUG",
                cull_after=options.cull_after,
            )
            ports.release()
            asyncio.run(
                _supervise(settings, data_dir, launch_link(settings, repository, options.ref, query), options)
            )
        finally:
            data_dir.close()


def _prune(data_dir: DataDir, days: float) -> None:
    try:
        removed = pruning.prune(data_dir.path, SYSTEM_CLOCK.time() - days * 86400)
    except OSError as error:
        # it stays, and takes its space; that keeps nobody from launching
        print(f"{PROGRAM}: an old environment cannot be removed: {error}", file=sys.stderr)
        return
    if removed:
        print(
            f"Removed environments that were not used for {days:g} day{'s' * (days != 1)}: {', '.join(removed)}",
            flush=True,
        )


async def _supervise(settings: Settings, data_dir: DataDir, link: str, options: argparse.Namespace) -> None:
    from binderhub_ext.local.supervisor import Supervisor

    await Supervisor(settings, data_dir, link, options.log_level).run()


def check_packages() -> None:
    """Raise `LocalFailure` unless the packages of the extra ``local`` are installed."""
    needed = ("jupyterlab", "ipykernel", "jupyterhub_idle_culler", "psutil", "uv")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise LocalFailure(
            f"these packages are missing: {', '.join(missing)}; install 'binderhub_ext[local]' with uv or pip"
        )


def launch_link(settings: Settings, repository: str, ref: str, query: str) -> str:
    """Return the address of the launch page of a repository."""
    return f"{settings.service_url}v2/git/{quote(repository, safe='')}/{quote(ref, safe='/')}{query}"


async def check_ref(repository: str, ref: str) -> None:
    """Raise `LocalFailure` unless the repository answers and has the ref."""
    try:
        if await refs.resolve(repository, ref) is None:
            raise LocalFailure(f"{repository} has no branch, tag or commit {ref!r}")
    except LaunchError as error:
        detail = " ".join(error.detail.split())
        raise LocalFailure(f"{error.row.title}: {repository} {ref} ({detail})") from error


def _repository(given: str | None, data_dir: DataDir) -> tuple[str, str]:
    """Return the repository's address, and the query of its launch link."""
    if given is None:
        made = demo_repository.make(data_dir.path / "demo")
        return str(made), f"?labpath={demo_repository.NOTEBOOK}"
    if "://" not in given and Path(given).expanduser().exists():
        return str(_local_repository(Path(given).expanduser().resolve())), ""
    if "://" not in given and ":" not in given:
        raise LocalFailure(f"there is no folder {given}")
    try:
        return git.parse_address(given), ""
    except LaunchError as error:
        raise LocalFailure(f"--repo {git.without_secrets(given)}: {error.detail}") from error


def _local_repository(path: Path) -> Path:
    if not path.is_dir():
        raise LocalFailure(f"{path} is not a folder")
    if (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir()):
        return path
    for parent in path.parents:
        if (parent / ".git").exists():
            raise LocalFailure(f"{path} is inside the git repository {parent}: give that with --repo")
    raise LocalFailure(
        f"{path} is not a git repository: run `git init && git add --all && git commit -m start` there first"
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port (0 to 65535)")
    return number


def _days(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days")
    return number


class _reserved_ports:
    """Holds four ports on 127.0.0.1 until `release`: the given one, and three that are free."""

    def __init__(self, public: int) -> None:
        self.sockets: list[socket.socket] = []
        for number in (public, 0, 0, 0):
            listener = socket.socket()
            self.sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", number))
                listener.listen()
            except OSError as error:
                self.release()
                why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                raise LocalFailure(
                    f"port {number} of 127.0.0.1 {why}: give another one with --port"
                ) from error
        self.numbers = [int(listener.getsockname()[1]) for listener in self.sockets]

    def release(self) -> None:
        """Let the processes that come have the ports."""
        for listener in self.sockets:
            listener.close()

    def __enter__(self) -> _reserved_ports:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
