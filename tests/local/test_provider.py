"""Which commit a link means, and which links are refused."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import quote

import psutil
import pytest

from binderhub_ext.errors import LaunchError
from binderhub_ext.local.provider import LocalGitProvider
from tests.support.local_run import git, make_repository


def provider(address: object, ref: str, **kwargs: object) -> LocalGitProvider:
    return LocalGitProvider(spec=f"{quote(str(address), safe='')}/{ref}", **kwargs)


@pytest.mark.parametrize(
    ("ref", "commit"),
    [
        ("main", "second"),
        ("HEAD", "second"),
        ("feature/one", "feature"),
        ("feature%2Fone", "feature"),
        ("v1", "first"),
        ("v2", "second"),
        ("refs/heads/main", "second"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_branches_and_tags_are_found(repo, ref, commit, form):
    found = provider(form.format(repo.path), ref)
    assert await found.get_resolved_ref() == getattr(repo, commit)
    assert await found.get_resolved_spec() == f"{found.escaped_address}/{getattr(repo, commit)}"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
@pytest.mark.parametrize("length", [7, 12, 40])
async def test_commit_ids_may_be_abbreviated(repo, form, length):
    assert await provider(form.format(repo.path), repo.first[:length]).get_resolved_ref() == repo.first


@pytest.mark.parametrize("ref", ["nowhere", "feature", "deadbee", "ma", "a" * 300, "b\u00fc\u00df\U0001f680"])
async def test_a_ref_that_does_not_exist_is_none(repo, ref):
    assert await provider(repo.path, quote(ref)).get_resolved_ref() is None


async def test_a_commit_that_does_not_exist_is_none_on_this_disk(repo):
    assert await provider(repo.path, "0" * 40).get_resolved_ref() is None


async def test_a_branch_that_looks_like_a_commit_id_is_a_branch(tmp_path):
    commit = make_repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "branch", "deadbeef")
    assert await provider(tmp_path / "r", "deadbeef").get_resolved_ref() == commit


async def test_a_tag_of_a_tag_is_the_commit(tmp_path):
    commit = make_repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "tag", "-a", "-m", "inner", "inner")
    git(tmp_path / "r", "tag", "-a", "-m", "outer", "outer", "inner")
    assert await provider(tmp_path / "r", "outer").get_resolved_ref() == commit


@pytest.mark.parametrize(
    "spec",
    [
        "%2Fsomewhere",
        "%2Fsomewhere/",
        "",
        "/main",
        "https%3A//host/repo/main",
        "user/repo/main",
        f"{quote('--upload-pack=touch /tmp/x', safe='')}/main",
        f"{quote('-oProxyCommand=x', safe='')}/main",
        f"{quote('ext::sh -c id', safe='')}/main",
        f"{quote('fd::7', safe='')}/main",
        f"{quote('ftp://host/repo', safe='')}/main",
        f"{quote('ssh://-oProxyCommand=x/repo', safe='')}/main",
        f"{quote('https://me:secret@host/repo', safe='')}/main",
        f"{quote('https://token@host/repo', safe='')}/main",
        f"{quote('https:///repo', safe='')}/main",
        f"{quote('http://[bad/repo', safe='')}/main",
        f"{quote('/a/../etc', safe='')}/main",
        f"{quote('file:///a/../etc', safe='')}/main",
        "%2Fa%00b/main",
        "%2Fa%0Ab/main",
        "%2Fa/--upload-pack=x",
        "%2Fa/..%2F..%2Fetc",
        "%2Fa/ma%00in",
        "%2Fa/main~1",
        "%2Fa/main:README.md",
        "%2Fa/*",
        f"%2Fa/{'x' * 1001}",
    ],
)
def test_a_link_that_is_wrong_or_a_trick_is_refused(spec):
    with pytest.raises(LaunchError) as failure:
        LocalGitProvider(spec=spec)
    assert failure.value.code == "spec.invalid"
    assert "secret" not in failure.value.detail and "token@" not in failure.value.detail


async def test_a_folder_without_a_repository_is_not_found(tmp_path):
    with pytest.raises(LaunchError) as failure:
        await provider(tmp_path, "main").get_resolved_ref()
    assert failure.value.code == "repo.not_found"
    assert "does not appear to be a git repository" in failure.value.detail


@pytest.mark.parametrize("scheme", ["http", "git"])
async def test_a_host_that_refuses_connections_is_unreachable(scheme):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    with pytest.raises(LaunchError) as failure:
        await provider(f"{scheme}://127.0.0.1:{port}/repo", "main").get_resolved_ref()
    assert failure.value.code == "repo.unreachable"


async def test_a_host_that_asks_for_a_password_is_not_found_and_nobody_is_asked():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LaunchError) as failure:
            await asyncio.wait_for(provider(f"http://127.0.0.1:{port}/repo", "main").get_resolved_ref(), 10)
    assert failure.value.code == "repo.not_found"


async def test_git_ends_when_nobody_waits_for_it_any_more():
    connected = asyncio.Event()
    others = psutil.Process().children(recursive=True)

    async def never_answer(reader, writer):
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/repo"
        task = asyncio.ensure_future(provider(address, "main").get_resolved_ref())
        await asyncio.wait_for(connected.wait(), 10)
        children = [child for child in psutil.Process().children(recursive=True) if child not in others]
        assert any("ls-remote" in " ".join(child.cmdline()) for child in children)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        psutil.wait_procs(children, timeout=5)
        assert not [child for child in children if child.is_running() and child.status() != "zombie"]


async def test_git_ignores_the_repository_that_it_is_started_from(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert await provider(repo.path, repo.first[:8]).get_resolved_ref() == repo.first


def test_banned_repositories_stay_banned(repo):
    assert provider(repo.path, "main", banned_specs=[".*project.*"]).is_banned()
    assert not provider(repo.path, "main").is_banned()
