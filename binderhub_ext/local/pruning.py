"""Removes images of the process builder that nobody has used for long."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from binderhub_ext.local import copies


def prune(root: Path, unused_since: float) -> list[str]:
    """Remove the images whose last server was started before a moment. Blocking.

    Called before a run starts its Hub: the run holds the data directory, so that no image is in
    use. What a process of an earlier run still builds is left alone.

    Parameters
    ----------
    root : Path
        The data directory.
    unused_since : float
        Seconds since 1970.

    Returns
    -------
    list of str
        The names of their directories.
    """
    removed = []
    for path in sorted((root / "images").iterdir()):
        if path.is_dir() and _last_use(path) < unused_since and _remove(path):
            removed.append(path.name)
    return removed


def _last_use(path: Path) -> float:
    manifest = path / "manifest.json"
    # without one it is what a build left that did not end
    return (manifest if manifest.exists() else path).stat().st_mtime


def _remove(path: Path) -> bool:
    """Remove an image and its lock, unless something holds the lock."""
    lock_path = path.with_name(path.name + ".lock")
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # from here on it is not whole, wherever the removal may stop
        (path / "manifest.json").unlink(missing_ok=True)
        copies.remove(path)
        lock_path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
