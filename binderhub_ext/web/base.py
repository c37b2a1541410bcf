"""What the handlers of this package share."""

from __future__ import annotations

import inspect
import re
from typing import Any

from tornado.web import HTTPError

from binderhub_ext.errors import LaunchError
from binderhub_ext.launch.launches import Launches
from binderhub_ext.launch.tickets import InvalidTicket, Ticket, TicketOffice
from binderhub_ext.upstream import BaseHandler

_CODES = {400: "request.invalid", 401: "request.forbidden", 403: "request.forbidden", 404: "provider.unknown",
          405: "request.invalid", 429: "rate.limited"}  # fmt: skip


class ExtHandler(BaseHandler):
    """BinderHub's handler, with what this package put into the application's settings."""

    @property
    def launches(self) -> Launches:
        return self.settings["binderhub_ext_launches"]

    @property
    def office(self) -> TicketOffice:
        return self.launches.services.office

    async def prepare(self) -> None:
        ready = super().prepare()
        if inspect.isawaitable(ready):
            await ready
        if self.settings["auth_enabled"]:
            # asks the Hub without blocking; the synchronous look-ups that follow find the answer in the cache
            await self.hub_auth.get_user(self, sync=False)

    @property
    def user_name(self) -> str:
        """The logged-in user's name; empty without authentication."""
        if not self.settings["auth_enabled"]:
            return ""
        user = self.current_user
        return user["name"] if user else ""

    def provider_and_spec(self) -> tuple[str, str]:
        """Return the provider's prefix and the spec as they stand in the URL, escapes and all."""
        match = re.match(r"[^/]+/([^/]+)/(.+)", self.request.path[len(self.settings["base_url"]) :])
        if match is None:
            raise HTTPError(404)
        return match[1], match[2]

    def launch_host(self) -> str:
        """The public address of this BinderHub, with its base URL and a slash at the end."""
        badge = self.get_badge_base_url() if self.settings.get("badge_base_url") else ""
        return badge or f"{self.request.protocol}://{self.request.host}{self.settings['base_url']}"

    def check_ticket(self, text: str, prefix: str, spec: str) -> Ticket:
        """Return the ticket. Raises `LaunchError` ticket.invalid, ticket.expired."""
        try:
            ticket = self.office.check(text, prefix, spec, self.user_name)
        except InvalidTicket as error:
            raise LaunchError("ticket.invalid") from error
        services = self.launches.services
        if services.clock.time() - ticket.issued > services.settings.ticket_lifetime:
            raise LaunchError("ticket.expired")
        return ticket

    def failure_of(self, status_code: int, exc_info: Any) -> LaunchError:
        """Say what the exception that ended a request means to a person."""
        error = exc_info[1] if exc_info else None
        if isinstance(error, LaunchError):
            return error
        message = self.extract_message(exc_info) if isinstance(error, HTTPError) else ""
        return LaunchError(_CODES.get(status_code, "internal"), detail=message, message=message)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        # what is in the catalogue is an answer, not a crash
        if not isinstance(value, LaunchError):
            super().log_exception(typ, value, tb)
