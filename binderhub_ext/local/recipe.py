"""What a repository asks to have installed, found in the places where repo2docker looks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NOT_USED = (
    "Dockerfile",
    "environment.yml",
    "Pipfile",
    "Pipfile.lock",
    "conda-lock.yml",
    "apt.txt",
    "runtime.txt",
    "install.R",
    "DESCRIPTION",
    "Project.toml",
    "REQUIRE",
    "default.nix",
    "postBuild",
    "start",
)
_INSTALLABLE = re.compile(r"^\[(project|build-system)\]", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """What to install.

    Attributes
    ----------
    arguments : tuple of str
        For ``uv pip install``, run in the repository's root; empty when there is nothing to install.
    source : str
        The file that says so, relative to the root.
    not_used : tuple of str
        Files that repo2docker reads and the process builder does not.
    """

    arguments: tuple[str, ...] = ()
    source: str = ""
    not_used: tuple[str, ...] = ()


def read(root: Path) -> Recipe:
    """Return the recipe of the repository that is checked out at `root`.

    As with repo2docker, a ``binder`` or ``.binder`` folder takes the place of the root.
    """
    folder = next((name for name in ("binder", ".binder") if (root / name).is_dir()), "")
    prefix = f"{folder}/" if folder else ""
    not_used = tuple(prefix + name for name in _NOT_USED if (root / folder / name).is_file())
    requirements = f"{prefix}requirements.txt"
    if (root / requirements).is_file():
        return Recipe(("--requirements", requirements), requirements, not_used)
    if not folder:
        project = root / "pyproject.toml"
        # many repositories have this file for the settings of tools only
        if project.is_file() and _INSTALLABLE.search(project.read_text(encoding="utf-8", errors="replace")):
            return Recipe((".",), "pyproject.toml", not_used)
        if (root / "setup.py").is_file():
            return Recipe((".",), "setup.py", not_used)
    return Recipe(not_used=not_used)
