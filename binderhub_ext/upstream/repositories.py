"""From a spec to a repository at a commit, by BinderHub's providers."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import binderhub.builder
from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError

from binderhub_ext.errors import LaunchError
from binderhub_ext.upstream.compat import IS_MAIN


@dataclass(frozen=True)
class Repository:
    """A repository at a commit, and what BinderHub calls its image.

    Attributes
    ----------
    provider : RepoProvider
        BinderHub's object.
    spec : str
        What was resolved: differs from the link's when its branch is gone and HEAD stands in.
    resolved_spec : str
        The same with the commit for the ref.
    notice : str
        What the person should know about the link; may be empty.
    """

    provider: Any = field(repr=False)
    prefix: str
    spec: str
    resolved_spec: str
    repo_url: str
    ref: str
    ref_url: str
    image_name: str
    build_name: str
    notice: str = ""

    @property
    def metric_labels(self) -> dict[str, str]:
        """The labels of BinderHub's build and launch counters."""
        return {"provider": self.provider.name, "repo": self.repo_url}


class Repositories:
    """BinderHub's providers.

    Parameters
    ----------
    settings : dict
        Of BinderHub's Tornado application.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def provider(self, prefix: str, spec: str) -> Any:
        """Make the provider's object. Raises `LaunchError`: provider.unknown, spec.invalid, repo.banned."""
        providers = self._settings["repo_providers"]
        if prefix not in providers:
            raise LaunchError("provider.unknown", message=f"No provider found for prefix {prefix}")
        if "\0" in unquote(spec) or len(spec) > 2000:
            raise LaunchError("spec.invalid")
        try:
            provider = providers[prefix](config=self._settings["traitlets_config"], spec=spec)
            banned = provider.is_banned()
        except LaunchError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider makes of a spec, the link is wrong
            raise LaunchError("spec.invalid", detail=str(error)[:1000]) from error
        if banned:
            raise LaunchError(
                "repo.banned",
                message=f"Sorry, {spec} is not allowed to launch. Please contact admins for more info!",
            )
        return provider

    async def resolve(self, prefix: str, spec: str) -> Repository:
        """Find the commit that a spec stands for.

        Raises
        ------
        LaunchError
            provider.unknown, spec.invalid, repo.banned, repo.not_found, ref.not_found,
            repo.unreachable, repo.rate_limited.
        """
        provider = self.provider(prefix, spec)
        ref, notice = await self._ref(provider), ""
        if ref is None:
            provider, spec, ref, notice = await self._without_ref(provider, prefix, spec)
        repo_url = provider.get_repo_url()
        slug = provider.get_build_slug()
        image_prefix = self._settings.get("image_prefix") or self._settings.get("docker_image_prefix", "")
        safe_slug, build_name = _image_and_build_slug(slug, ref, image_prefix)
        return Repository(
            provider=provider,
            prefix=prefix,
            spec=spec,
            resolved_spec=await provider.get_resolved_spec()
            if hasattr(provider, "get_resolved_spec")
            else spec,
            repo_url=repo_url,
            ref=ref,
            ref_url=await provider.get_resolved_ref_url()
            if hasattr(provider, "get_resolved_ref_url")
            else repo_url,
            image_name=f"{image_prefix}{safe_slug}:{ref}".replace("_", "-").lower(),
            build_name=build_name,
            notice=notice,
        )

    async def _ref(self, provider: Any) -> str | None:
        try:
            return await provider.get_resolved_ref()
        except Exception as error:
            failure = repository_failure(error)
            if failure is error:
                raise
            raise failure from error

    async def _without_ref(self, provider: Any, prefix: str, spec: str) -> tuple[Any, str, str, str]:
        """Look whether the repository is there at all, and let HEAD stand in for a default branch that was renamed."""
        unresolved = getattr(provider, "unresolved_ref", "")
        message = (
            f"Could not resolve ref for {prefix}:{spec}. Double check your URL and that your repo is public."
        )
        if not unresolved or unresolved == "HEAD" or not spec.endswith("/" + unresolved):
            raise LaunchError(
                "ref.not_found" if unresolved not in {"", "HEAD"} else "repo.not_found", message=message
            )
        head_spec = spec[: -len(unresolved)] + "HEAD"
        head_provider = self.provider(prefix, head_spec)
        head = await self._ref(head_provider)
        if head is None:
            raise LaunchError("repo.not_found", message=message)
        if provider.name == "GitHub" and unresolved in {"master", "main"}:
            notice = (
                f"{message} Tip: HEAD will always resolve to a repository's default branch.\n"
                f"Trying again with HEAD instead of {unresolved}. Please update your links."
            )
            return head_provider, head_spec, head, notice
        raise LaunchError("ref.not_found", detail=f"There is no {unresolved!r}.", message=message)


def _image_and_build_slug(slug: str, ref: str, image_prefix: str) -> tuple[str, str]:
    limit = 255 - len(image_prefix)
    if IS_MAIN:
        safe = binderhub.builder._safe_build_slug(slug, limit=limit)
        return safe, binderhub.builder._generate_build_name(slug, ref, prefix="build-")
    # in 0.1.0 both are methods that use nothing of their handler but each other
    handler = binderhub.builder.BuildHandler
    instance = handler.__new__(handler)
    return instance._safe_build_slug(slug, limit=limit), instance._generate_build_name(
        slug, ref, prefix="build-"
    )


def image_and_tag(image: str) -> tuple[str, str]:
    if IS_MAIN:
        return binderhub.builder._get_image_basename_and_tag(image)
    name, _, tag = "/".join(image.split("/")[-2:]).partition(":")
    return name, tag


_GIT = (
    (re.compile(r"could not resolve host|connection (refused|reset|timed out)|timed out|failed to connect|"
                r"couldn't connect|network is unreachable|early EOF|HTTP 5\d\d|returned error: 5\d\d", re.I),
     "repo.unreachable"),
    (re.compile(r"returned error: 429|rate limit", re.I), "repo.rate_limited"),
    (re.compile(r"not found|does not exist|not appear to be a git repository|authentication failed|"
                r"could not read (username|password)|permission denied|access denied|returned error: 40[134]|"
                r"terminal prompts disabled", re.I),
     "repo.not_found"),
)  # fmt: skip


def repository_failure(error: Exception) -> LaunchError:
    """Say why a provider could not resolve a ref, from whatever it raised."""
    if isinstance(error, LaunchError):
        return error
    text = str(error)
    if isinstance(error, (HTTPClientError, HTTPError)):
        status = getattr(error, "code", None) or getattr(error, "status_code", 500)
        if status in {403, 429}:
            return LaunchError("repo.rate_limited")
        return LaunchError("repo.not_found" if status in {401, 404, 410, 422} else "repo.unreachable")
    if "rate limit" in text.lower():
        return LaunchError("repo.rate_limited", detail=text[:500])
    if "git ls-remote" in text:
        for pattern, code in _GIT:
            if pattern.search(text):
                return LaunchError(code)
        return LaunchError("repo.unreachable")
    if isinstance(error, (OSError, asyncio.TimeoutError)):
        return LaunchError("repo.unreachable")
    if isinstance(error, ValueError):
        return LaunchError("spec.invalid", detail=text[:500])
    return LaunchError("internal")
