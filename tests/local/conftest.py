"""A repository with history, and settings for code that runs outside a Hub."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from binderhub_ext.local.settings import VARIABLE, Settings
from tests.support.local_run import git, make_repository


@dataclass(frozen=True)
class Repo:
    path: Path
    first: str
    second: str
    feature: str


@pytest.fixture(scope="session")
def repo(tmp_path_factory) -> Repo:
    """main with two commits, a branch `feature/one`, tags `v1` (plain) and `v2` (annotated)."""
    path = tmp_path_factory.mktemp("repositories") / "project"
    first = make_repository(path, {"README.md": "one\n"})
    git(path, "tag", "v1")
    git(path, "checkout", "--quiet", "-b", "feature/one")
    feature = make_repository(path, {"feature.txt": "feature\n"}, "a feature")
    git(path, "checkout", "--quiet", "main")
    second = make_repository(path, {"README.md": "two\n"}, "second")
    git(path, "tag", "--annotate", "--message=two", "v2")
    return Repo(path, first, second, feature)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """What a run tells its processes, for code that is called without one."""
    result = Settings(
        data_dir=str(tmp_path / "data"),
        run_id="a-run-that-is-a-test",
        port=1,
        hub_port=2,
        proxy_port=3,
        service_port=4,
        proxy_command=("node", "proxy"),
    )
    result.root.mkdir()
    monkeypatch.setenv(VARIABLE, json.dumps(asdict(result)))
    return result
