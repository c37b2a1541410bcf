"""Names of temporary users and named servers: readable, and made of few characters."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderhub_ext.launch.names import name_from_repo


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://github.com/jupyter-widgets/ipyleaflet", "jupyter-widgets-ipyleaflet-x3k9"),
        ("https://gitlab.com/group/sub/project.git", "group-sub-project-x3k9"),
        ("git@host.test:people/repo.git", "people-repo-x3k9"),
        ("https://host.test/Ä b", "-c3-a4-20b-x3k9".strip("-")),
        ("https://host.test/", "repo-x3k9"),
    ],
)
def test_a_name_can_be_read(url, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert name_from_repo(url, "x3k9") == name


@given(st.text(max_size=300))
def test_any_repository_has_a_name_that_the_hub_takes(text):
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,46}", name_from_repo(f"https://host.test/{text}", "x3k9"))
