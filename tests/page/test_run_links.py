"""Links to `/run` from BinderHub's first year."""

from __future__ import annotations

import hashlib

import pytest

from binderhub_ext.web.run_links import launch_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROVIDERS = {"gh", "gl", "git"}
PREFIX = "registry.example.org/binder-"


def image(slug: str, tag: str = COMMIT) -> str:
    """Return the name that BinderHub gives to the image of this slug."""
    escaped = slug.replace("-", "-2d")
    return f"{PREFIX}{escaped}-{hashlib.sha256(slug.encode()).hexdigest()[:6]}:{tag}"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"repo": "user/repo"}, "v2/gh/user/repo/HEAD"),
        ({"repo": "https://github.com/user/repo.git", "ref": "v1"}, "v2/gh/user/repo/v1"),
        ({"url": "https://gitlab.com/user/repo/", "branch": "a/b"}, "v2/gl/user%2Frepo/a/b"),
        (
            {"repo": "user/repo", "default_url": "/lab/tree/a b"},
            "v2/gh/user/repo/HEAD?urlpath=%2Flab%2Ftree%2Fa+b",
        ),
        ({"repo_url": "https://gitlab.com/a/b/c"}, "v2/gl/a%2Fb%2Fc/HEAD"),
        ({"repo": "https://example.org/r.git"}, "v2/git/https%3A%2F%2Fexample.org%2Fr.git/HEAD"),
        ({"repo": "user/repo", "filepath": "a.ipynb"}, "v2/gh/user/repo/HEAD?filepath=a.ipynb"),
        ({"image": image("user-repo"), "default_url": "/"}, f"v2/gh/user/repo/{COMMIT}"),
    ],
)
def test_a_link_that_names_its_repository_goes_on_to_it(arguments: dict[str, str], path: str) -> None:
    assert launch_path(arguments, PROVIDERS, image_prefix=PREFIX) == path


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"image": ""},
        {"image": "jupyter/base-notebook:latest"},
        {"image": image("user-my-repo")},  # user, my-repo or user-my, repo?
        {"image": image("user-repo", "latest")},  # not a commit
        {"image": image("user-repo").replace("user", "evil")},  # not the repository that it was built from
        {"image": image("..-repo")},
        {"repo": "https://example.org/../x"},
        {"repo": "https:///user/repo"},
        {"repo": "javascript://github.com/user/repo"},
        {"repo": "https://[github.com/user/repo"},
        {"repo": "user"},
        {"repo": "user/.."},
        {"repo": "../.."},
        {"repo": "user/re po"},
        {"repo": "user/repo/tree/main"},
    ],
)
def test_a_link_that_does_not_is_answered_with_a_page(arguments: dict[str, str]) -> None:
    assert launch_path(arguments, PROVIDERS, image_prefix=PREFIX) is None


def test_a_ref_cannot_add_to_the_link() -> None:
    assert launch_path({"repo": "u/r", "ref": "x?urlpath=y#z"}, PROVIDERS) == "v2/gh/u/r/x%3Furlpath%3Dy%23z"


def test_a_provider_that_is_not_configured_is_not_used() -> None:
    assert launch_path({"repo": "u/r"}, {"gl"}) is None
    assert launch_path({"repo": "https://example.org/r"}, {"gh"}) is None
