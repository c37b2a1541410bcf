"""Renders the pages that people see: the launch, and messages such as errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from binderhub_ext.web import script_policy
from binderhub_ext.web.templating import overlay


@dataclass(frozen=True)
class RenderedPage:
    """A page, ready to be written.

    Attributes
    ----------
    html : str
        The body.
    headers : dict
        To be set on the answer. Different for each rendering: the policy names a nonce.
    """

    html: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Link:
    """Where a message sends its reader."""

    url: str
    text: str


class PageRenderer:
    """Renders our pages in the operator's templates. Make one, and keep it.

    Parameters
    ----------
    environment : jinja2.Environment
        BinderHub's, with the operator's `template_path` (``settings["jinja2_env"]``).
    operator_headers : mapping
        The headers that the operator set for all answers (``tornado_settings["headers"]``).
        Ours of the same name are left out: a Content-Security-Policy of theirs wins.
    """

    def __init__(self, environment: Any, *, operator_headers: Mapping[str, Any] | None = None) -> None:
        self._environment = overlay(environment)
        self._theirs = {name.lower() for name in operator_headers or ()}

    def render_launch(
        self, namespace: Mapping[str, Any], *, config: Mapping[str, Any], title: str
    ) -> RenderedPage:
        """Render the page of one launch.

        Parameters
        ----------
        namespace : mapping
            What templates of BinderHub are given (`static_url`, `banner`, `extra_footer_scripts`,
            `template_variables`, ...), and `ext_static_url`: a callable, from the path of a file of
            ours below `web/static` to its URL.
        config : mapping
            For the page's script: `buildUrl`, `buildToken`, `ticket`, `providerName`, `spec`, `repoUrl`,
            `homeUrl`. Optional: `xsrf` (where the Hub authenticates people; taken from the namespace),
            `stallSeconds` (after which a silent connection is replaced; default 90).
        title : str
            The document's title until the script says more.
        """
        config = {"xsrf": namespace.get("xsrf"), **config}
        return self._render(
            "binderhub_ext/launch.html",
            namespace,
            title=title,
            launch_config=config,
            home_url=config.get("homeUrl") or "/",
            provider_name=config.get("providerName") or "",
            spec_text=readable_spec(str(config.get("spec") or "")),
            repo_url=web_url(config.get("repoUrl")),
        )

    def render_message(
        self,
        namespace: Mapping[str, Any],
        *,
        status: int,
        title: str,
        message: str,
        hint: str = "",
        link: Link | None = None,
    ) -> RenderedPage:
        """Render a page that says one thing: what happened, and what the reader can do.

        Parameters
        ----------
        status : int
            The HTTP status, shown small.
        title, message, hint : str
            Text, not HTML.
        link : Link or None
            Where to go on.
        """
        return self._render(
            "binderhub_ext/message.html",
            namespace,
            title=title,
            status=status,
            message=message,
            hint=hint,
            link=link,
        )

    def _render(self, template: str, namespace: Mapping[str, Any], **ours: Any) -> RenderedPage:
        variables = {
            # page.html of BinderHub writes it as JSON, which an undefined variable is not
            "page_config": {},
            "opengraph_title": ours["title"],
            **namespace,
            **ours,
        }
        rendered = self._environment.get_template(template).render(variables)
        html, policy = script_policy.policed(rendered, script_policy.new_nonce())
        headers = {
            "Content-Security-Policy": policy,
            # neither the ticket nor the link itself is anybody else's business
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return RenderedPage(
            html,
            {name: value for name, value in headers.items() if name.lower() not in self._theirs},
        )


def readable_spec(spec: str) -> str:
    """Return a spec as people write it: some providers escape a whole URL in it."""
    return unquote(spec, errors="replace")


def web_url(url: Any) -> str | None:
    """Return the URL when it may become a link (http or https), else None."""
    if not isinstance(url, str):
        return None
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        return None
    return url if scheme in {"http", "https"} else None
