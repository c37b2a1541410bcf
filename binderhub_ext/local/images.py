"""Images of the process builder: directories, keyed by image name.

An image is whole once its manifest is there; the manifest is written last, and by one atomic
rename. It is built where it stays, not moved there: scripts, kernelspecs and editable installs
name their own absolute path.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
"""Changes when images of older versions cannot be used any more."""


@dataclass(frozen=True)
class Image:
    """Where one image is, or will be.

    Attributes
    ----------
    path : Path
        Its directory; has the repository's files in ``repo``, an environment in ``venv``, and a
        kernelspec in ``jupyter``.
    """

    name: str
    path: Path

    @classmethod
    def named(cls, name: str, root: Path) -> Image:
        """Return the image of this name in the data directory `root`.

        Names may be long and have any character, and file names may not: a digest keeps them apart.
        """
        readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return cls(name, root / "images" / f"{readable}-{digest}")

    @property
    def repo(self) -> Path:
        return self.path / "repo"

    @property
    def venv(self) -> Path:
        return self.path / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    def is_whole(self) -> bool:
        """Say whether a server can be started from it. Runs its interpreter (10 ms)."""
        try:
            if json.loads(self.manifest.read_text(encoding="utf-8")) != self._facts():
                return False
            if not (self.repo.is_dir() and (self.path / "jupyter/kernels/python3/kernel.json").is_file()):
                return False
            probe = subprocess.run(
                [self.python, "-I", "-S", "-c", ""],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return False
        return probe.returncode == 0

    def commit(self) -> None:
        """Declare it whole: write the manifest, so that it is there entirely or not at all."""
        draft = self.manifest.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(self._facts(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.manifest)
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def mark_used(self) -> None:
        """Remember that it is used now: what is not used for long is removed (see `pruning`)."""
        os.utime(self.manifest)

    def clear(self) -> None:
        """Remove what a build that did not end, or an image that broke, left behind."""
        self.manifest.unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)

    def _facts(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "image": self.name,
            "python": sys.version,
            # Jupyter comes from here: an image is of no use to another installation
            "outer": sysconfig.get_path("purelib"),
            "path": str(self.path),
        }

    @contextmanager
    def locked(self, stop: threading.Event) -> Iterator[int]:
        """Hold the image's lock, so that two processes build it once. Blocking.

        Yields
        ------
        int
            The file descriptor that holds the lock. A command that inherits it keeps the lock
            when this process dies first.

        Raises
        ------
        InterruptedError
            When `stop` was set before the lock was there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if stop.wait(0.1):
                        raise InterruptedError("stopped while another process builds the image") from None
            yield file
        finally:
            os.close(file)
