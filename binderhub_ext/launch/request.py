"""What a launch is asked for, and what launches work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from binderhub_ext.hub.cleanup import Cleaner
from binderhub_ext.hub.client import HubClient
from binderhub_ext.hub.gate import HubGate
from binderhub_ext.launch.builds import Builds
from binderhub_ext.launch.flights import Flights
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.launch.tickets import TicketOffice
from binderhub_ext.timing import Clock
from binderhub_ext.upstream import Upstream


@dataclass(frozen=True)
class LaunchRequest:
    """What somebody asked for.

    Attributes
    ----------
    prefix, spec : str
        The provider's prefix and the spec, as in the URL.
    user : str
        The logged-in user's name; empty where BinderHub has no authentication.
    launch_host : str
        This BinderHub's public address, with its base URL.
    host, request_origin, have_build_token
        For the telemetry event.
    """

    prefix: str
    spec: str
    build_only: bool = False
    user: str = ""
    launch_host: str = ""
    client_ip: str = ""
    host: str = ""
    request_origin: str = ""
    have_build_token: bool = False

    def __str__(self) -> str:
        return f"{self.prefix}/{self.spec[:200]}"


@dataclass
class Services:
    """What launches work with; made once by the application."""

    upstream: Upstream
    hub: HubClient
    gate: HubGate
    cleaner: Cleaner
    builds: Builds
    office: TicketOffice
    settings: Launcher
    clock: Clock
    hub_url: str
    auth_enabled: bool
    flights: Flights = field(default_factory=Flights)
