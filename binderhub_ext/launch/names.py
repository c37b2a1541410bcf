"""Names that a launch gives to its temporary user or named server."""

from __future__ import annotations

import re
import string
from urllib.parse import urlparse

import escapism

_SSH = re.compile(r"[^/]*@[^/]*:")
_SAFE = set(string.ascii_lowercase + string.digits + "-")


def name_from_repo(repo_url: str, suffix: str) -> str:
    """Return a readable name that is unique by its suffix: ``jupyter-widgets-ipyleaflet-x3k9...``.

    As BinderHub's `unique_name_from_repo`, but the same for the same launch, and made of
    ``[a-z0-9-]`` alone whatever the repository is called.
    """
    if "://" not in repo_url and _SSH.match(repo_url):
        path = repo_url.split(":", 1)[1]
    else:
        path = urlparse(repo_url).path
    prefix = path.strip("/").replace("/", "-").lower().removesuffix(".git")
    # long names are cut before the escaping, so that a few escapes do not eat them
    if len(prefix) > 32:
        prefix = f"{prefix[:15]}-{prefix[-15:]}"
    # hyphens stay hyphens: it is the suffix that keeps names apart
    escaped = escapism.escape(prefix, safe=_SAFE, escape_char="-", allow_collisions=True)
    prefix = escaped.lower()[:40].strip("-")
    return f"{prefix or 'repo'}-{suffix}"
