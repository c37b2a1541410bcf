"""The Hub's side: its active servers, from its REST API.

Source: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
The token needs the scopes `list:users` and `read:servers`; for the canary's clean-up `delete:users`
and `delete:servers`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from binderhub_ext.timing import SYSTEM_CLOCK, Clock, Deadline

from .observations import HubServer, HubView, ServerKey

PAGE = 200
"""JupyterHub's own `api_page_max_limit`."""


class HubSilent(Exception):
    """The Hub does not answer, or with server errors only."""


class HubRefused(Exception):
    """The Hub answers, but does not let this watchdog look: its token or address is wrong."""


@dataclass
class Hub:
    """A Hub's REST API.

    Parameters
    ----------
    session : aiohttp.ClientSession
    api_url : str
        Ends in `/hub/api`. Inside the cluster, not through the proxy: the proxy answers for a Hub
        that does not.
    timeout : float
        Seconds for one look, all its pages together.
    """

    session: aiohttp.ClientSession
    api_url: str
    token: str
    timeout: float = 10.0
    clock: Clock = SYSTEM_CLOCK

    async def view(self) -> HubView:
        """Return the active servers.

        Raises
        ------
        HubSilent, HubRefused
        """
        deadline = Deadline.after(self.timeout, self.clock)
        servers: dict[ServerKey, HubServer] = {}
        offset: int | None = 0
        try:
            while offset is not None:
                page = await self._users(offset, deadline)
                for user in page["items"]:
                    servers.update(self._servers(user))
                following = page["_pagination"].get("next")
                offset = following["offset"] if following else None
        except (KeyError, TypeError, AttributeError) as error:
            raise HubRefused(f"this is no list of users of a JupyterHub: {error!r}") from error
        return HubView(servers)

    async def _users(self, offset: int, deadline: Deadline) -> Any:
        path = f"/users?state=active&sort=id&limit={PAGE}&offset={offset}"
        status, body = await self._request("GET", path, deadline)
        if status != 200:
            raise HubRefused(f"the Hub answers {status} to GET /users: {body[:300]}")
        try:
            return json.loads(body)
        except ValueError as error:
            raise HubRefused(f"the Hub's answer is no JSON: {body[:100]!r}") from error

    @staticmethod
    def _servers(user: dict[str, Any]) -> dict[ServerKey, HubServer]:
        if "servers" not in user:
            raise HubRefused("the watchdog's token lacks the scope read:servers")
        found = {}
        for name, server in user["servers"].items():
            if server.get("stopped"):
                continue
            key = ServerKey(user["name"], name)
            found[key] = HubServer(
                key, bool(server["ready"]), server.get("pending") or "", server.get("started") or ""
            )
        return found

    async def delete_user(self, name: str, deadline: Deadline) -> bool:
        """Delete a user with its servers; return whether the Hub says that it is gone.

        Asks again while the Hub is busy with the user's server (202, 400, 5xx, no answer), until the
        deadline.
        """
        while not deadline.expired:
            try:
                status, _ = await self._request("DELETE", f"/users/{quote(name, safe='@~')}", deadline)
            except HubSilent:
                status = 0
            if status in (204, 404):
                return True
            if status in (401, 403):
                return False
            await self.clock.sleep(min(1.0, deadline.remaining))
        return False

    async def _request(self, method: str, path: str, deadline: Deadline) -> tuple[int, str]:
        headers = {
            "Authorization": f"token {self.token}",
            "Accept": "application/jupyterhub-pagination+json",
        }
        try:
            request = self.session.request(
                method, self.api_url + path, headers=headers, allow_redirects=False
            )
            response = await deadline.within(self.timeout).wait_for(request)
            body = await deadline.within(self.timeout).wait_for(response.text())
        except asyncio.TimeoutError as error:
            raise HubSilent(f"the Hub does not answer within {self.timeout:.0f} s") from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise HubSilent(f"the Hub does not answer: {type(error).__name__}: {error}") from error
        if response.status >= 500:
            raise HubSilent(f"the Hub answers {response.status}")
        return response.status, body
