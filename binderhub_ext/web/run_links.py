"""What a link to `/run` of BinderHub's first year meant, as a launch link of today.

Such a link named an image to start, and the page waited for the server before it answered.
An image is no longer something that a link may choose; but most of these links tell which
repository the image was built from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping
from urllib.parse import quote, unquote, urlencode, urlsplit

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ESCAPED = re.compile(r"-([0-9a-f]{2})")


def launch_path(
    arguments: Mapping[str, str], providers: Container[str], *, image_prefix: str = ""
) -> str | None:
    """Return the launch link that the arguments of a `/run` link stand for.

    Parameters
    ----------
    arguments : mapping
        The query, one value for each name. The repository is told by `repo` (or `repo_url`,
        `url`): an address, or ``user/name`` at GitHub; with `ref` (or `branch`). Or it is
        told by `image`, when only one repository can have it. `filepath`, or `urlpath` (or
        `default_url`), is what to open.
    providers : container of str
        The prefixes of the providers that are configured: ``gh``, ``gl``, ``git``, ...
    image_prefix : str
        BinderHub's `image_prefix`, which the names of its images begin with.

    Returns
    -------
    str or None
        A path relative to BinderHub's base URL, ``v2/gh/<user>/<repo>/<ref>?urlpath=...``;
        None when the arguments do not name a repository that can be launched here.
    """
    repository = next((arguments[name] for name in ("repo", "repo_url", "url") if arguments.get(name)), "")
    if repository:
        ref = quote(arguments.get("ref") or arguments.get("branch") or "HEAD", safe="/")
        found = _from_repository(repository.strip(), ref)
    else:
        found = _from_image(arguments.get("image", ""), image_prefix)
    if found is None or found[0] not in providers:
        return None
    where = {
        "filepath": arguments.get("filepath", ""),
        "urlpath": arguments.get("urlpath") or arguments.get("default_url") or "",
    }
    query = urlencode({name: value for name, value in where.items() if value.strip("/")})
    return "v2/" + "/".join(found) + (f"?{query}" if query else "")


def _from_repository(address: str, ref: str) -> tuple[str, str] | None:
    """Return the provider's prefix, and the spec."""
    if "://" not in address:
        address = "https://github.com/" + address
    try:
        url = urlsplit(address)
        host = (url.hostname or "").lower()
    except ValueError:
        return None
    if url.scheme not in {"http", "https"} or not host:
        return None
    parts = unquote(url.path).strip("/").removesuffix(".git").split("/")
    if not all(_is_name(part) for part in parts):
        return None
    if host in {"github.com", "www.github.com"}:
        return ("gh", f"{parts[0]}/{parts[1]}/{ref}") if len(parts) == 2 else None
    if host == "gitlab.com":
        return ("gl", f"{quote('/'.join(parts), safe='')}/{ref}") if len(parts) >= 2 else None
    return "git", f"{quote(address, safe='')}/{ref}"


def _from_image(image: str, prefix: str) -> tuple[str, str] | None:
    """Read an image's name backwards: prefix, escaped ``user-repo``, six digits of its hash, commit.

    Source: BinderHub's builder.py (`_generate_build_name`, `_safe_build_slug`). The name does not say
    where the user ends and the repository begins, so only a name with one hyphen tells; and
    only a commit makes sure that it is this repository and not another of the same name.
    """
    name, _, commit = image.rpartition(":")
    if not prefix or not name.startswith(prefix) or not _COMMIT.fullmatch(commit):
        return None
    escaped, _, digest = name.removeprefix(prefix).rpartition("-")
    slug = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), escaped)
    if hashlib.sha256(slug.encode()).hexdigest()[:6] != digest:
        return None
    parts = slug.split("-")
    if len(parts) != 2 or not all(_is_name(part) for part in parts):
        return None
    return "gh", f"{parts[0]}/{parts[1]}/{commit}"


def _is_name(part: str) -> bool:
    return bool(_NAME.fullmatch(part)) and part not in {".", ".."}
