"""Runs git as a subprocess that asks nobody anything and cannot be talked into running other programs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from binderhub_ext.errors import LaunchError
from binderhub_ext.local.settings import clean_environment

PROTOCOLS = ("file", "git", "http", "https", "ssh")
"""What git may use to reach a repository; others run programs (``ext::``) or helpers."""

# `git@host:path`, as most hosts show it
_SCP_FORM = re.compile(r"(?P<user>[\w-]+)@(?P<host>[\w.-]+):(?P<path>[^:]+)")
_UNREACHABLE = re.compile(
    r"could not resolve|connection (refused|timed out|reset)|timed out|failed to connect|couldn't connect"
    r"|no route to host|network is unreachable|returned error: (5\d\d|429)|early eof|ssl|tls"
    r"|no address associated|temporary failure|hung up unexpectedly",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(\w+://)[^/\s@]+@")


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for a git that never prompts."""
    return clean_environment(environ) | {
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
        "GIT_ASKPASS": "",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "SSH_ASKPASS": "",
    }


def command(*arguments: str) -> list[str]:
    """Return a git command line without credential helpers."""
    return ["git", "-c", "credential.helper=", "-c", "core.askPass=", *arguments]


def without_secrets(text: str) -> str:
    """Return git's output without what may stand before the host in an address."""
    return _USERINFO.sub(r"\1", text)


def parse_address(text: str) -> str:
    """Return the address of a repository in a form that is safe to hand to git.

    Parameters
    ----------
    text : str
        An absolute path, or a URL of one of `PROTOCOLS`, or ``user@host:path``.

    Raises
    ------
    LaunchError
        ``spec.invalid`` (not retryable), with the reason as its detail.
    """
    if not text or not text.isprintable() or text.startswith("-"):
        raise LaunchError(
            "spec.invalid", detail="The repository's address is empty or has control characters."
        )
    scp = _SCP_FORM.fullmatch(text)
    if scp and "//" not in text:
        text = "ssh://{user}@{host}/{path}".format(**scp.groupdict())
    if text.startswith("/"):
        path = text
    else:
        try:
            parts = urlsplit(text)
            host, user, password = parts.hostname or "", parts.username or "", parts.password
            _ = parts.port
        except ValueError as error:
            raise LaunchError("spec.invalid", detail="The repository's address is not a URL.") from error
        if parts.scheme not in PROTOCOLS or "://" not in text:
            raise LaunchError(
                "spec.invalid",
                detail="The repository's address must be an absolute path or a URL that begins with "
                + ", ".join(f"{name}://" for name in PROTOCOLS)
                + ", with its slashes written as %2F.",
            )
        if password is not None or (user and parts.scheme != "ssh"):
            raise LaunchError("spec.invalid", detail="The repository's address must not carry a password.")
        if parts.scheme != "file" and not host:
            raise LaunchError("spec.invalid", detail="The repository's address names no host.")
        if host.startswith("-") or user.startswith("-"):
            raise LaunchError("spec.invalid", detail="The repository's address names no host.")
        path = parts.path
    if ".." in path.split("/"):
        raise LaunchError("spec.invalid", detail="The repository's address must not contain '..'.")
    return text


@dataclass(frozen=True)
class Result:
    """How a git command ended."""

    returncode: int
    stdout: str
    stderr: str


async def run(*arguments: str, cwd: str | None = None, env: Mapping[str, str] | None = None) -> Result:
    """Run git and return what it said; it is killed when the caller is cancelled.

    Raises
    ------
    LaunchError
        ``internal`` when there is no git.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=environment() if env is None else dict(env),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise LaunchError("internal", detail="git is not installed.") from error
    try:
        stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            # its helpers (git-remote-https, ssh) are in the same group
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Result(
        process.returncode or 0,
        stdout.decode("utf-8", "replace"),
        without_secrets(stderr.decode("utf-8", "replace")),
    )


def error_of(result: Result) -> LaunchError:
    """Return the error that a failed command against a repository stands for.

    ``repo.unreachable`` (retryable) when the host did not answer, else ``repo.not_found``; git's
    own words are the detail.
    """
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("fatal:", "remote:", "error:", "ssh:"))] or lines
    code = "repo.unreachable" if _UNREACHABLE.search(result.stderr) else "repo.not_found"
    return LaunchError(code, detail="\n".join(said[:5]))
