"""The data directory: taken by one run at a time, with its secrets and folders."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from binderhub_ext.local import copies
from binderhub_ext.local.failures import LocalFailure

NEEDED_MB = 300
"""Free space without which a run is refused: the files of a few servers and a small environment."""


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ``binderhub_ext`` in the place that the XDG base directory specification names."""
    base = environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "binderhub_ext"


class DataDir:
    """A data directory that this process holds until `close`.

    Parameters
    ----------
    path : Path
        Made when it is not there.

    Raises
    ------
    LocalFailure
        When another run holds it, it cannot be written, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LocalFailure(_reason(self.path, error)) from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.lock)
            raise LocalFailure(
                f"another run uses {self.path}: stop it, or give another folder with --data-dir"
            ) from None
        try:
            self._prepare()
        except OSError as error:
            os.close(self.lock)
            raise LocalFailure(_reason(self.path, error)) from error
        except LocalFailure:
            os.close(self.lock)
            raise

    def close(self) -> None:
        """Let another run have it."""
        os.close(self.lock)

    def _prepare(self) -> None:
        free = shutil.disk_usage(self.path).free // 1_000_000
        if free < NEEDED_MB:
            raise LocalFailure(
                f"only {free} MB free in {self.path}, and {NEEDED_MB} MB are needed: "
                "make room, or give another folder with --data-dir"
            )
        # users are temporary, and none of their servers survives the run: nothing of it is kept
        for name in ("hub.sqlite", "hub.sqlite-journal", "proxy.pid"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("servers", "logs"):
            copies.remove(self.path / name)
        for name in ("servers", "logs", "images", "secrets"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
        for name in ("cookie_secret", "proxy_token", "build_token"):
            self._secret(self.path / "secrets" / name)

    @staticmethod
    def _secret(path: Path) -> None:
        """Make a secret once; it stays, so that what it signed stays valid over a restart."""
        if path.is_file() and len(path.read_text().strip()) == 64:
            return
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        draft.rename(path)


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk of {path}: make room, or give another folder with --data-dir"
    return f"{path} cannot be used as data directory ({error.strerror}): give another folder with --data-dir"
