"""Images of the process builder: made once, used again, made again when they are broken."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from binderhub_ext.local import recipe
from binderhub_ext.local.build import ProcessBuild
from binderhub_ext.local.images import Image
from binderhub_ext.upstream import BuildPhase
from tests.support.local_run import ROOT, git, make_repository


class Build:
    """Runs a build as the service does, and keeps what it reports."""

    def __init__(self, repo: Path, ref: str, name: str = "prefix/repo:1") -> None:
        self.reports: list[Any] = []
        self.builder = ProcessBuild(q=self, name="build-1", repo_url=str(repo), ref=ref, image_name=name)

    def put(self, report: Any) -> None:
        self.reports.append(report)

    async def run(self) -> BuildPhase:
        await asyncio.to_thread(self.builder.submit)
        await asyncio.sleep(0.05)  # what the thread reported last arrives
        assert self.phases[0] is BuildPhase.RUNNING and len(self.phases) == 2
        return self.phases[1]

    @property
    def phases(self) -> list[BuildPhase]:
        return [report for report in self.reports if isinstance(report, BuildPhase)]

    @property
    def log(self) -> str:
        return "".join(json.loads(report)["message"] for report in self.reports if isinstance(report, str))


def in_image(image: Image, code: str) -> str:
    done = subprocess.run([image.python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.strip()


async def test_requirements_are_installed_and_the_image_is_used_again(settings, tmp_path):
    commit = make_repository(tmp_path / "repo", {"requirements.txt": "cowsay==6.1\n", "a.txt": "1"})
    first = Build(tmp_path / "repo", commit)
    assert not ProcessBuild.image_exists("prefix/repo:1")
    assert await first.run() is BuildPhase.BUILT
    assert ProcessBuild.image_exists("prefix/repo:1")
    assert "+ cowsay==6.1" in first.log
    image = Image.named("prefix/repo:1", settings.root)
    assert in_image(image, "import cowsay, ipykernel; print(cowsay.__file__)").startswith(str(image.venv))
    assert (image.repo / "a.txt").read_text() == "1"

    again = Build(tmp_path / "repo", commit)
    assert await again.run() is BuildPhase.BUILT
    assert again.log == ""


async def test_the_images_own_packages_come_before_the_outer_ones(settings, tmp_path):
    files = {"pyproject.toml": '[project]\nname = "uv"\nversion = "0.0.1"\n', "uv.py": "own = True\n"}
    commit = make_repository(tmp_path / "repo", files)
    build = Build(tmp_path / "repo", commit)
    assert await build.run() is BuildPhase.BUILT, build.log
    image = Image.named("prefix/repo:1", settings.root)
    assert in_image(image, "import uv, tornado; print(uv.own)") == "True"
    assert in_image(image, "import sys; print(sys.prefix)") == str(image.venv)


async def test_packages_that_do_not_go_with_the_outer_kernel_bring_their_own(settings, tmp_path):
    files = {"requirements.txt": "ipykernel\ntraitlets==5.9.0\n"}
    commit = make_repository(tmp_path / "repo", files)
    build = Build(tmp_path / "repo", commit)
    assert await build.run() is BuildPhase.BUILT, build.log
    image = Image.named("prefix/repo:1", settings.root)
    found = in_image(
        image, "import ipykernel.kernelapp, traitlets; print(traitlets.__version__, ipykernel.__file__)"
    )
    assert found.startswith(f"5.9.0 {image.venv}")


@pytest.mark.parametrize("damage", ["manifest", "interpreter", "half", "garbage", "kernel", "repo"])
async def test_a_broken_image_is_built_again(settings, tmp_path, damage):
    commit = make_repository(tmp_path / "repo", {"a.txt": "1"})
    image = Image.named("prefix/repo:1", settings.root)
    assert await Build(tmp_path / "repo", commit).run() is BuildPhase.BUILT
    match damage:
        case "manifest":
            image.manifest.unlink()
        case "interpreter":
            image.python.unlink()
            image.python.symlink_to("/nowhere/python3")
        case "half":
            os.truncate(image.manifest, 10)
        case "garbage":
            image.manifest.write_text("[]")
        case "kernel":
            (image.path / "jupyter/kernels/python3/kernel.json").unlink()
        case "repo":
            image.repo.rename(tmp_path / "moved")
    assert not ProcessBuild.image_exists("prefix/repo:1")
    assert await Build(tmp_path / "repo", commit).run() is BuildPhase.BUILT
    assert image.is_whole() and in_image(image, "print(1)") == "1"


async def test_a_failing_install_says_what_uv_says(settings, tmp_path):
    commit = make_repository(tmp_path / "repo", {"requirements.txt": "cowsay==999.1\n"})
    build = Build(tmp_path / "repo", commit)
    assert await build.run() is BuildPhase.FAILED
    assert "cowsay==999.1" in build.log and "unsatisfiable" in build.log
    assert build.log.splitlines()[-1] == "The packages could not be installed; uv says why above."
    assert not ProcessBuild.image_exists("prefix/repo:1")


async def test_a_repository_that_is_gone_says_what_git_says(settings, tmp_path):
    build = Build(tmp_path / "nothing", "0" * 40)
    assert await build.run() is BuildPhase.FAILED
    assert "does not exist" in build.log


async def test_a_commit_that_is_on_no_branch_can_be_built(settings, tmp_path):
    commit = make_repository(tmp_path / "repo", {"a.txt": "1"})
    lost = make_repository(tmp_path / "repo", {"b.txt": "2"}, "lost")
    git(tmp_path / "repo", "reset", "--quiet", "--hard", commit)
    git(tmp_path / "repo", "update-ref", "refs/pull/1/head", lost)
    build = Build(f"file://{tmp_path / 'repo'}", lost)
    assert await build.run() is BuildPhase.BUILT, build.log
    assert (Image.named("prefix/repo:1", settings.root).repo / "b.txt").exists()


async def test_two_processes_build_one_image_once(settings, tmp_path):
    commit = make_repository(tmp_path / "repo", {"requirements.txt": "cowsay==6.1\n"})
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.local.test_build import Build
async def main():
    build = Build({str(tmp_path / "repo")!r}, {commit!r})
    print((await build.run()).value, "Cloning" in build.log)
asyncio.run(main())
"""
    both = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(2)
    ]
    outputs = sorted([(await each.communicate())[0].decode().strip() for each in both])
    assert outputs == ["built False", "built True"]


async def test_stopping_a_build_ends_its_processes_and_leaves_no_image(settings, tmp_path, monkeypatch):
    setup = "import os, time\nopen(os.environ['MARK'], 'w').write(str(os.getpid()))\ntime.sleep(3600)\n"
    commit = make_repository(tmp_path / "repo", {"setup.py": setup})
    mark = tmp_path / "mark"
    monkeypatch.setenv("MARK", str(mark))
    build = Build(tmp_path / "repo", commit)
    task = asyncio.ensure_future(build.run())
    while not mark.exists() or not mark.read_text():
        assert not task.done(), build.log
        await asyncio.sleep(0.05)
    pid = int(mark.read_text())
    build.builder.stop()
    assert await asyncio.wait_for(task, 10) is BuildPhase.FAILED
    gone = not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert gone
    assert not ProcessBuild.image_exists("prefix/repo:1")


async def test_a_build_that_is_stopped_while_it_waits_for_another_one_returns(settings, tmp_path):
    commit = make_repository(tmp_path / "repo", {"a.txt": "1"})
    with Image.named("prefix/repo:1", settings.root).locked(threading.Event()):
        build = Build(tmp_path / "repo", commit)
        task = asyncio.ensure_future(build.run())
        await asyncio.sleep(0.3)
        assert not task.done()
        build.builder.stop()
        assert await asyncio.wait_for(task, 5) is BuildPhase.FAILED


@pytest.mark.parametrize("name", ["x" * 300, "../../etc/passwd", "b\u00fc\u00df \U0001f680:1", "a\nb", "A:1"])
def test_any_image_name_is_a_directory_of_its_own(tmp_path, name):
    image = Image.named(name, tmp_path)
    assert image.path.parent == tmp_path / "images" and len(image.path.name) < 100
    assert image.path != Image.named(name + "1", tmp_path).path
    assert Image.named("a:1", tmp_path).path != Image.named("A:1", tmp_path).path


@pytest.mark.parametrize(
    ("files", "source", "not_used"),
    [
        ({"requirements.txt": ""}, "requirements.txt", ()),
        ({"requirements.txt": "", "binder/requirements.txt": ""}, "binder/requirements.txt", ()),
        ({".binder/requirements.txt": ""}, ".binder/requirements.txt", ()),
        ({"binder/runtime.txt": "python-3.9", "requirements.txt": ""}, "", ("binder/runtime.txt",)),
        ({"environment.yml": "", "runtime.txt": ""}, "", ("environment.yml", "runtime.txt")),
        ({"pyproject.toml": "[project]\nname='x'\n"}, "pyproject.toml", ()),
        ({"pyproject.toml": "[tool.ruff]\n"}, "", ()),
        ({"setup.py": ""}, "setup.py", ()),
        ({"README.md": ""}, "", ()),
    ],
)
def test_what_is_installed_is_found_where_repo2docker_looks(tmp_path, files, source, not_used):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = recipe.read(tmp_path)
    assert (found.source, found.not_used) == (source, not_used)


async def test_files_that_are_not_used_are_named_in_the_log(settings, tmp_path):
    commit = make_repository(
        tmp_path / "repo", {"environment.yml": "dependencies: [numpy]\n", "runtime.txt": "r-4"}
    )
    build = Build(tmp_path / "repo", commit)
    assert await build.run() is BuildPhase.BUILT
    assert "environment.yml is not used" in build.log and "runtime.txt is not used" in build.log
