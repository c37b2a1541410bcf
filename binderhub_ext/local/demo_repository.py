"""Makes the demo repository, which ships with the package, a git repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from binderhub_ext.local import copies, git

SOURCE = Path(__file__).resolve().parent / "demo"
NOTEBOOK = "demo.ipynb"

_AUTHOR = "binderhub_ext"
_WHEN = "2026-01-01T00:00:00+00:00"


def make(target: Path) -> Path:
    """Make the demo repository at `target`, with the same commit id everywhere. Blocking.

    One that is there and was changed by hand is left as it is.

    Returns
    -------
    Path
        `target`.
    """
    if target.exists() and _was_changed(target):
        return target
    draft = target.with_name(target.name + ".draft")
    copies.remove(draft)
    shutil.copytree(SOURCE, draft, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    _git(draft, "init", "--quiet", "--template=", ".")
    _git(draft, "symbolic-ref", "HEAD", "refs/heads/main")
    _git(draft, "add", "--all", "--chmod=-x", "--force", ".")
    _git(draft, "commit", "--quiet", "--no-verify", "--message=The demo repository of binderhub_ext")
    if target.exists():
        if _head(target) == _head(draft):
            copies.remove(draft)
            return target
        copies.remove(target)
    draft.rename(target)
    return target


def _was_changed(repository: Path) -> bool:
    """Say whether somebody works in it: files that differ from the commit, or a commit not by us."""
    try:
        return (
            _git(repository, "log", "-2", "--format=%an %cI") != f"{_AUTHOR} {_WHEN}"
            or _git(repository, "status", "--porcelain") != ""
        )
    except subprocess.CalledProcessError:
        return False  # not a whole repository: made again


def _head(repository: Path) -> str:
    try:
        return _git(repository, "rev-parse", "HEAD")
    except subprocess.CalledProcessError:
        return ""


def _git(folder: Path, *arguments: str) -> str:
    """Run git without the user's own settings, which would change the commit."""
    fixed = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": _AUTHOR,
        "GIT_AUTHOR_EMAIL": "",
        "GIT_AUTHOR_DATE": _WHEN,
        "GIT_COMMITTER_NAME": _AUTHOR,
        "GIT_COMMITTER_EMAIL": "",
        "GIT_COMMITTER_DATE": _WHEN,
    }
    done = subprocess.run(
        ["git", f"--git-dir={folder / '.git'}", f"--work-tree={folder}", *arguments],
        cwd=folder,
        env=git.environment() | fixed,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
