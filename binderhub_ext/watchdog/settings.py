"""The watchdog's configuration, as traits."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, Float, Integer, List, Unicode, default, validate
from traitlets.config import Application

from .decisions import Limits
from .signs import CURED_BY_RESTART, Bounds, Sign

SIGNS = [sign.value for sign in Sign]
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Settings(Application):
    """What an operator can set: for each trait its unit, its default and the reason for the default."""

    # what is watched

    hub_api_url = Unicode(
        "http://hub:8081/hub/api",
        help="Address of the Hub's REST API, ending in /hub/api. The Hub's own service and not the proxy, "
        "which would answer for a Hub that does not. Default: the service of the BinderHub chart.",
    ).tag(config=True)
    hub_token = Unicode(
        help="API token of the Hub, with the scopes list:users and read:servers (for the canary also "
        "delete:users and delete:servers). Default: the environment variable JUPYTERHUB_API_TOKEN, so that "
        "it stands in no file.",
    ).tag(config=True)
    namespace = Unicode(
        help="Namespace of the Hub and of its servers. Default: the one that this process runs in.",
    ).tag(config=True)
    api_server = Unicode(
        "",
        help="Address of a Kubernetes API server that asks for no credentials, as `kubectl proxy` gives. "
        "Default: empty, which takes the pod's service account, else KUBECONFIG.",
    ).tag(config=True)
    server_selector = Unicode(
        "component=singleuser-server",
        help="Label selector of the servers' pods. Default: what KubeSpawner sets and selects by.",
    ).tag(config=True)
    hub_selector = Unicode(
        "app=jupyterhub,component=hub",
        help="Label selector of the Hub's pod. Default: the labels of the BinderHub chart; add release=NAME "
        "when several Hubs share the namespace.",
    ).tag(config=True)
    service_url = Unicode(
        "",
        help="Address of the BinderHub service with its base URL, for its metrics and the canary, for "
        "example http://binder/. Default: empty, which watches no launches and runs no canary.",
    ).tag(config=True)
    interval = Float(
        10.0,
        help="Seconds from one look to the next. Default: 10, so that a bound of a minute is judged from six "
        "looks, and a thousand servers cost the Hub five requests a look.",
    ).tag(config=True)
    timeout = Float(
        10.0,
        help="Seconds that one side may take for one look. Default: 10, as long as a Hub blocks at worst.",
    ).tag(config=True)

    # the signs

    bounds = Dict(
        per_key_traits={sign: Float() for sign in SIGNS if sign != "canary"},
        help="Seconds for which a sign must be seen without interruption until it stands, by sign; what is "
        "left out keeps its default: start_stuck 60 (keep it above the Hub's Spawner.http_timeout), "
        "stop_stuck 60, ghost 90 (keep it above twice Spawner.poll_interval), orphan 300, hub_silent 60, "
        "no_launch 300.",
    ).tag(config=True)
    no_launch_failures = Integer(
        5, help="Launches that must have failed since the last success until no_launch stands. Default: 5."
    ).tag(config=True)
    canary_failures = Integer(
        2,
        help="Launches of the canary that must have failed in a row until canary stands. Default: 2, because "
        "one may meet a node that goes away.",
    ).tag(config=True)

    # the recovery

    dry_run = Bool(False, help="Decide and tell, but restart and delete nothing. Default: false.").tag(
        config=True
    )
    restart_on = List(
        Unicode(),
        sorted(sign.value for sign in CURED_BY_RESTART),
        help="Signs that may lead to a restart; the others are only told. Default: all but orphan.",
    ).tag(config=True)
    restart_command = List(
        Unicode(),
        help="Program and arguments that restart the Hub, for a Hub that is no pod. Default: empty, which "
        "deletes the Hub's pod.",
    ).tag(config=True)
    cooldown = Float(
        600.0,
        help="Least seconds between two restarts. Default: 600, twice the Hub's start timeout: a restart "
        "must have had its effect before the next is thought of.",
    ).tag(config=True)
    restart_limit = Integer(
        4,
        help="Most restarts in 24 hours; 0 never restarts. Default: 4, because what four did not cure needs "
        "a person.",
    ).tag(config=True)
    grace = Float(
        300.0,
        help="Seconds for which the Hub's process must have been there, as seen by this watchdog, before it "
        "is restarted. Default: 300, longer than a Hub with many servers takes to start.",
    ).tag(config=True)
    settle = Float(
        60.0,
        help="Seconds for which the API server must have answered without a gap before the Hub is restarted. "
        "Default: 60, longer than the backoff of a reflector that will recover by itself.",
    ).tag(config=True)
    delete_orphans = Bool(
        False,
        help="Delete pods of servers that the Hub does not know. Default: false, because a Hub that lost its "
        "database knows none.",
    ).tag(config=True)

    # the canary

    canary_spec = Unicode(
        "",
        help="Provider and repository that the canary launches, as in a launch link, for example "
        "gh/binder-examples/requirements/HEAD. Default: empty, no canary.",
    ).tag(config=True)
    canary_interval = Float(
        900.0,
        help="Seconds from one launch of the canary to the next. Default: 900, about 100 launches a day.",
    ).tag(config=True)
    canary_timeout = Float(
        300.0, help="Seconds in which the canary's server must answer. Default: 300, the Hub's start timeout."
    ).tag(config=True)
    canary_proxy_url = Unicode(
        "",
        help="Address through which the canary opens its server when the public one cannot be reached from "
        "inside, for example http://proxy-public. Default: empty, the public one.",
    ).tag(config=True)

    # several watchdogs, pages

    lease_name = Unicode(
        "binderhub-ext-watchdog", help="Name of the Lease by which one of several watchdogs acts."
    ).tag(config=True)
    lease_duration = Float(
        30.0,
        help="Seconds after which a watchdog that does not renew the Lease is followed by another. "
        "Default: 30, three looks.",
    ).tag(config=True)
    identity = Unicode(
        help="This watchdog's name in the Lease. Default: the host's name, which is the pod's."
    ).tag(config=True)
    evidence_dir = Unicode(
        "", help="Folder in which the evidence outlives this process. Default: empty, memory only."
    ).tag(config=True)
    ip = Unicode("", help="Address on which /health, /metrics and /evidence are served. Default: all.").tag(
        config=True
    )
    port = Integer(8080, help="Port of /health, /metrics and /evidence.").tag(config=True)

    @default("hub_token")
    def _hub_token(self) -> str:
        return os.environ.get("JUPYTERHUB_API_TOKEN", "")

    @default("identity")
    def _identity(self) -> str:
        return socket.gethostname()

    @default("namespace")
    def _namespace(self) -> str:
        return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"

    @validate("restart_on")
    def _known_signs(self, proposal: Any) -> Any:
        if unknown := set(proposal["value"]) - set(SIGNS):
            raise ValueError(f"restart_on: {', '.join(sorted(unknown))} is none of {', '.join(SIGNS)}")
        return proposal["value"]

    def limits(self) -> Limits:
        """Return the rules of recovery."""
        return Limits(
            cooldown=self.cooldown,
            restart_limit=self.restart_limit,
            grace=self.grace,
            settle=self.settle,
            restart_on=frozenset(Sign(name) for name in self.restart_on),
            needs_pod=not self.restart_command,
            dry_run=self.dry_run,
        )

    def sign_bounds(self) -> Bounds:
        """Return how long each sign may last."""
        counts = {"no_launch_failures": self.no_launch_failures, "canary_failures": self.canary_failures}
        return Bounds(**self.bounds, **counts)
