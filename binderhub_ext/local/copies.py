"""A private copy of an image's repository for each server, so that servers do not share files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_repository(source: Path, target: Path) -> None:
    """Copy a checked-out repository with everything in it. Blocking.

    The commits themselves are not copied: git reads them from `source`, as after
    ``git clone --shared``.
    """
    objects = source / ".git" / "objects"

    def leave_out(folder: str, names: list[str]) -> list[str]:
        return ["objects"] if folder == str(source / ".git") else []

    shutil.copytree(source, target, symlinks=True, ignore=leave_out, ignore_dangling_symlinks=True)
    if objects.is_dir():
        info = target / ".git" / "objects" / "info"
        info.mkdir(parents=True)
        (info.parent / "pack").mkdir()
        (info / "alternates").write_text(f"{objects}\n", encoding="utf-8")


def remove(path: Path) -> None:
    """Remove a server's directory, read-only files in it too. Blocking."""

    def make_writable_and_retry(function: object, failed: str, error: object) -> None:
        parent = os.path.dirname(failed)
        for each in (parent, failed):
            if os.path.isdir(each) and not os.path.islink(each):
                os.chmod(each, 0o700)
        if os.path.isdir(failed) and not os.path.islink(failed):
            shutil.rmtree(failed, ignore_errors=True)
        elif os.path.lexists(failed):
            os.unlink(failed)

    if path.exists():
        shutil.rmtree(path, onerror=make_writable_and_retry)
