"""The process builder: a clone, an environment, a kernelspec. No container, nothing isolated."""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

from binderhub_ext.local import command, git, recipe
from binderhub_ext.local.images import Image
from binderhub_ext.local.settings import Settings, clean_environment
from binderhub_ext.upstream import BuildPhase, LocalBuildExecutor

OUTER_PACKAGES = "zz_binderhub_ext_outer.pth"
"""Lets an image's Python import the packages of the environment that runs Jupyter, after its own."""


class BuildFailed(Exception):
    """A step failed because of what the repository asks for; the text is for the build log."""


class ProcessBuild(LocalBuildExecutor):
    """Make an image directory from a repository.

    Jupyter Server comes from the environment that runs this; the image has the packages that the
    repository asks for, so that one that asks for none is there in a second.
    """

    @classmethod
    def image_exists(cls, image_name: str) -> bool:
        return Image.named(image_name, Settings.from_environment().root).is_whole()

    def submit(self) -> None:
        """Build the image, unless another process has built it meanwhile. Blocking.

        Raises
        ------
        OSError
            When the disk is full or the data directory is not writable.
        """
        self.root = Settings.from_environment().root
        self.image = Image.named(self.image_name, self.root)
        self.progress_status(BuildPhase.RUNNING)
        try:
            with self.image.locked(self.stop_event) as lock:
                self.lock = lock
                if not self.image.is_whole():
                    self._build()
        except BuildFailed as error:
            self.progress_log(f"{error}\n")
            self.progress_status(BuildPhase.FAILED)
        except (command.Stopped, InterruptedError):
            self.progress_log("The build was stopped.\n")
            self.progress_status(BuildPhase.FAILED)
        else:
            self.progress_status(BuildPhase.BUILT)

    def _build(self) -> None:
        self.image.clear()
        self._fetch()
        self._make_environment()
        self._install()
        self._make_kernel()
        self.image.commit()

    def _fetch(self) -> None:
        repo = str(self.image.repo)
        self._fetching(f"Cloning {git.without_secrets(self.repo_url)}\n")
        self._git("clone", "--progress", "--no-checkout", "--", self.repo_url, repo)
        checkout = ("-c", "advice.detachedHead=false", "checkout", "--progress", "--detach", self.ref, "--")
        if self._git("cat-file", "-e", f"{self.ref}^{{commit}}", cwd=repo, quiet=True):
            # not on any branch: a pull request's commit, or one that was replaced
            self._git("fetch", "--progress", "origin", self.ref, cwd=repo)
        self._git(*checkout, cwd=repo)
        if (self.image.repo / ".gitmodules").is_file():
            self._git("submodule", "update", "--init", "--recursive", "--progress", cwd=repo)

    def _make_environment(self) -> None:
        self._uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(self.image.venv))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = self.image.venv / "lib" / version / "site-packages"
        outer = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
        (packages / OUTER_PACKAGES).write_text("".join(f"{path}\n" for path in outer), encoding="utf-8")

    def _install(self) -> None:
        wanted = recipe.read(self.image.repo)
        for name in wanted.not_used:
            self.progress_log(f"{name} is not used: this builder installs Python packages only.\n")
        if not wanted.arguments:
            self.progress_log("The repository asks for no Python packages.\n")
            return
        self.progress_log(f"Installing what {wanted.source} asks for\n")
        self._uv("pip", "install", "--python", str(self.image.python), *wanted.arguments)

    def _make_kernel(self) -> None:
        check = [str(self.image.python), "-c", "import ipykernel.kernelapp"]
        if self._run(check, quiet=True):
            # the repository's packages do not go with the ipykernel of the outer environment
            self.progress_log("Installing a kernel that goes with the repository's packages\n")
            wanted = recipe.read(self.image.repo)
            self._uv("pip", "install", "--python", str(self.image.python), "ipykernel", *wanted.arguments)
        kernels = self.image.path / "jupyter" / "kernels" / "python3"
        kernels.mkdir(parents=True)
        (kernels / "kernel.json").write_text(
            json.dumps(
                {
                    "argv": [
                        str(self.image.python),
                        *("-m", "ipykernel_launcher", "-f", "{connection_file}"),
                    ],
                    "display_name": "Python 3",
                    "language": "python",
                    "metadata": {"debugger": True},
                }
            ),
            encoding="utf-8",
        )

    def _fetching(self, line: str) -> None:
        self.progress_log(git.without_secrets(line), phase="fetching")

    def _git(self, *arguments: str, cwd: str | None = None, quiet: bool = False) -> int:
        code = command.run(
            git.command(*arguments),
            stop=self.stop_event,
            on_line=(lambda line: None) if quiet else self._fetching,
            env=git.environment(),
            cwd=cwd,
            keep_open=[self.lock],
        )
        if code and not quiet:
            raise BuildFailed("The repository could not be fetched; git says why above.")
        return code

    def _uv(self, *arguments: str) -> None:
        if self._run([uv_path(), *arguments]):
            raise BuildFailed("The packages could not be installed; uv says why above.")

    def _run(self, arguments: list[str], *, quiet: bool = False) -> int:
        env = clean_environment()
        env.setdefault("UV_CACHE_DIR", str(self.root / "uv-cache"))
        env |= {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
        return command.run(
            arguments,
            stop=self.stop_event,
            on_line=(lambda line: None) if quiet else self.progress_log,
            env=env,
            cwd=self.image.repo if self.image.repo.is_dir() else Path("/"),
            keep_open=[self.lock],
        )


def uv_path() -> str:
    """Return the path of the uv that is installed beside this package."""
    import uv

    return str(uv.find_uv_bin())
