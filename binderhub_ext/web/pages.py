"""The pages: a launch, and what is left of `/run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.web import StaticFileHandler, authenticated

from binderhub_ext.errors import LaunchError
from binderhub_ext.upstream import binder_version
from binderhub_ext.web.base import ExtHandler
from binderhub_ext.web.page import Link, PageRenderer, RenderedPage
from binderhub_ext.web.run_links import launch_path

STATIC = Path(__file__).parent / "static"


class PageHandler(ExtHandler):
    """A handler whose answers, errors too, are pages."""

    @property
    def renderer(self) -> PageRenderer:
        return self.settings["binderhub_ext_renderer"]

    def namespace(self) -> dict[str, Any]:
        """What the operator's templates are given, as BinderHub gives it."""
        settings = self.settings
        return {
            "banner": settings.get("banner_message", ""),
            "base_url": settings["base_url"],
            "extra_footer_scripts": settings.get("extra_footer_scripts"),
            "extra_header_html": settings.get("extra_header_html"),
            "google_analytics_code": settings.get("google_analytics_code"),
            "google_analytics_domain": settings.get("google_analytics_domain"),
            "page_config": {
                "baseUrl": settings["base_url"],
                "aboutMessage": settings.get("about_message", ""),
                "bannerHtml": settings.get("banner_message", ""),
                "binderVersion": binder_version,
            },
            "ext_static_url": self.ext_static_url,
            **self.template_namespace,
        }

    def ext_static_url(self, path: str) -> str:
        """Return the URL of a file below `web/static`, with a hash of its contents."""
        version = StaticFileHandler.get_version({"static_path": str(STATIC)}, path)
        return f"{self.settings['base_url']}binderhub_ext/static/{path}" + (
            f"?v={version}" if version else ""
        )

    def send_page(self, page: RenderedPage) -> None:
        """Write a rendered page."""
        for name, value in page.headers.items():
            self.set_header(name, value)
        self.finish(page.html)

    def send_message(
        self, status: int, title: str, message: str, hint: str = "", link: Link | None = None
    ) -> None:
        """Write a page that says one thing."""
        self.set_status(status)
        front = Link(self.settings["base_url"], "Launch a repository")
        page = self.renderer.render_message(
            self.namespace(), status=status, title=title, message=message, hint=hint, link=link or front
        )
        self.send_page(page)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        failure = self.failure_of(status_code, kwargs.get("exc_info"))
        row = failure.row
        if status_code == 500 and failure.code != "internal":
            status_code = row.status_code
        detail = f"{failure.detail} " if failure.detail else ""
        reference = f" ({failure.code}, reference {failure.reference})"
        self.send_message(status_code, row.title, f"{detail}{row.hint}", hint=reference.strip())


class LaunchPageHandler(PageHandler):
    """`/v2/<provider>/<spec>`: shows a launch and goes to its server."""

    @authenticated
    def get(self, _prefix: str, _spec: str) -> None:
        prefix, spec = self.provider_and_spec()
        services = self.launches.services
        # what is wrong with the link is said here, before anything starts
        provider = services.upstream.provider(prefix, spec.rstrip("/"))
        try:
            repo_url = provider.get_repo_url()
        except Exception as error:
            raise LaunchError("spec.invalid") from error
        ticket = self.office.issue(prefix, spec, self.user_name, services.clock.time(), from_page=True)
        display = getattr(provider, "display_config", {}).get("displayName") or provider.name
        namespace = self.namespace()
        namespace["opengraph_title"] = f"{display}: {spec}"
        page = self.renderer.render_launch(
            namespace,
            config={
                "buildUrl": f"{self.settings['base_url']}build/{prefix}/{spec}",
                "buildToken": None,
                "ticket": ticket.text,
                "providerName": display,
                "spec": spec,
                "repoUrl": repo_url,
                "homeUrl": self.settings["base_url"],
            },
            title=namespace["opengraph_title"],
        )
        self.send_page(page)


class RunHandler(PageHandler):
    """`/run`: the page that once waited for servers. Waits for nothing."""

    def get(self) -> None:
        arguments = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        prefix = self.settings.get("image_prefix", "")
        target = launch_path(arguments, self.settings["repo_providers"], image_prefix=prefix)
        if target is not None:
            self.redirect(self.settings["base_url"] + target)
            return
        self.send_message(
            410,
            "This page is gone",
            "Links of this form started a server from an image. Servers are now started from the link of a repository.",
            hint="Open the launch link of the repository, or make one on the front page.",
        )
