"""Starts JupyterHub, the service or a Jupyter Server without imports that cost a second and serve nobody here.

Run as ``python -m binderhub_ext.local.start hub|service|server ARGUMENTS``.
"""

from __future__ import annotations

import importlib
import os
import sys

_MAIN = {
    "hub": ("jupyterhub.app", "main"),
    "service": ("binderhub_ext.app", "main"),
    "server": ("jupyterlab.labapp", "main"),
}


def main(arguments: list[str]) -> None:
    """Run one of the three with the remaining arguments."""
    what, *rest = arguments
    # jsonschema uses it, where it is installed, to check IRIs: it compiles a large grammar at import
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    module, function = _MAIN[what]
    path = os.environ.get("PATH", os.defpath)
    if what == "server":
        # at import, JupyterLab runs the `node` that it finds, for settings of yarn; nothing is built here
        os.environ["PATH"] = os.devnull
    try:
        run = getattr(importlib.import_module(module), function)
    finally:
        os.environ["PATH"] = path
    sys.argv[:] = [what, *rest]
    run()


if __name__ == "__main__":
    main(sys.argv[1:])
