"""The repository provider of the local BinderHub: any git repository, one on this disk included."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from traitlets import Unicode

from binderhub_ext.errors import LaunchError
from binderhub_ext.local import git, refs
from binderhub_ext.upstream import RepoProvider


class LocalGitProvider(RepoProvider):
    """``git/<URL-escaped address>/<ref>``.

    binderhub 0.1.0's provider of this prefix wants a full commit id, and main's refuses
    repositories on this disk.

    Raises
    ------
    LaunchError
        ``spec.invalid`` from the constructor; see `refs.resolve` for `get_resolved_ref`.
    """

    name = Unicode("Git")

    display_config = {
        "displayName": "Git repository",
        "id": "git",
        "spec": {"validateRegex": r"[^/]+/.+"},
        "repo": {
            "label": "Path or URL of a git repository",
            "placeholder": "example: /home/me/project",
            "urlEncode": True,
        },
        "ref": {"enabled": True, "default": "HEAD"},
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.escaped_address, _, ref = self.spec.partition("/")
        self.unresolved_ref = unquote(ref)
        if not self.unresolved_ref:
            raise LaunchError("spec.invalid", detail="The link must end in a branch, a tag or a commit id.")
        self.address = git.parse_address(unquote(self.escaped_address))
        refs.check_ref(self.unresolved_ref)
        self.resolved_ref: str | None = None

    async def get_resolved_ref(self) -> str | None:
        if self.resolved_ref is None:
            self.resolved_ref = await refs.resolve(self.address, self.unresolved_ref)
        return self.resolved_ref

    async def get_resolved_spec(self) -> str:
        return f"{self.escaped_address}/{await self.get_resolved_ref()}"

    def get_repo_url(self) -> str:
        return self.address

    async def get_resolved_ref_url(self) -> str:
        return self.address

    def get_build_slug(self) -> str:
        return self.address
