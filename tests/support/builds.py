"""Repositories to build, for tests of those who build them."""

from __future__ import annotations

from types import SimpleNamespace

from binderhub_ext.upstream import Repository


def repository(name: str) -> Repository:
    """Return a repository at a commit."""
    url = f"https://repos.test/{name}"
    return Repository(
        provider=SimpleNamespace(name="Git", git_credentials=""),
        prefix="git",
        spec=f"{name}/main",
        resolved_spec=f"{name}/abc123",
        repo_url=url,
        ref="abc123",
        ref_url=url,
        image_name=f"image-{name}:abc123",
        build_name=f"build-{name}",
    )
