"""What a link to `/run` of BinderHub's first year meant, as a launch link of today.

Such a link named an image to start, and the page waited for the server before it answered.
An image is no longer something that a link may choose; but most of these links tell which
repository the image was built from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode, urlsplit

_HOSTS = {"github.com": "gh", "www.github.com": "gh", "gitlab.com": "gl"}
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ESCAPED = re.compile(r"-([0-9a-f]{2})")


def launch_path(arguments: Mapping[str, str], *, image_prefix: str = "") -> str | None:
    """Return the launch link that the arguments of a `/run` link stand for.

    Parameters
    ----------
    arguments : mapping
        The query, one value for each name. The repository is told by `repo` (or `url`,
        `repository`): an address at GitHub or GitLab, or ``user/name``; with `ref` (or
        `branch`). Or it is told by `image`, when only one repository can have it.
    image_prefix : str
        BinderHub's `image_prefix`, which the names of its images begin with.

    Returns
    -------
    str or None
        A path relative to BinderHub's base URL, ``v2/gh/<user>/<repo>/<ref>?urlpath=...``;
        None when the arguments do not name a repository.
    """
    spec = _from_repository(arguments) or _from_image(arguments.get("image", ""), image_prefix)
    if spec is None:
        return None
    path = arguments.get("urlpath") or arguments.get("default_url") or ""
    return f"v2/{spec}" + ("?" + urlencode({"urlpath": path}) if path.strip("/") else "")


def _from_repository(arguments: Mapping[str, str]) -> str | None:
    address = next((arguments[name] for name in ("repo", "url", "repository") if arguments.get(name)), "")
    if "://" in address:
        try:
            url = urlsplit(address)
        except ValueError:
            return None
        provider = _HOSTS.get((url.hostname or "").lower()) if url.scheme in {"http", "https"} else None
        address = unquote(url.path)
    else:
        provider = "gh"
    parts = address.strip("/").removesuffix(".git").split("/")
    if provider is None or len(parts) != 2 or not all(_is_name(part) for part in parts):
        return None
    ref = quote(arguments.get("ref") or arguments.get("branch") or "HEAD", safe="/")
    if provider == "gl":
        return f"gl/{quote('/'.join(parts), safe='')}/{ref}"
    return f"gh/{parts[0]}/{parts[1]}/{ref}"


def _from_image(image: str, prefix: str) -> str | None:
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
    return f"gh/{parts[0]}/{parts[1]}/{commit}"


def _is_name(part: str) -> bool:
    return bool(_NAME.fullmatch(part)) and part not in {".", ".."}
