"""From the Hub's words to a row of the error catalogue.

What a failed spawn says is free text: the exception of the spawner, and before it the
progress events, which with KubeSpawner are the pod's Kubernetes events
(``<time> [Warning] <message>``). The rules below are those texts as they really are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub.client import HubBusy, HubError, HubRefused


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    code: str
    transient: bool


def _rule(pattern: str, code: str, *, transient: bool = False) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), code, transient)


# The first rule that matches wins; the messages are searched from the last to the first.
RULES = (
    # kubelet: pkg/kubelet/images/image_manager.go, pkg/kubelet/kuberuntime
    _rule(r"ErrImagePull|ImagePullBackOff|Failed to pull image|Back-off pulling image|InvalidImageName", "image.pull"),
    _rule(r"(pull access denied|manifest unknown|No such image|image not found)", "image.pull"),
    # API server, admission: plugin/pkg/admission/resourcequota
    _rule(r"exceeded quota", "cluster.full"),
    _rule(r"is forbidden|admission webhook .* denied|violates PodSecurity", "start.forbidden"),
    # scheduler, cluster autoscaler
    _rule(r"\d+/\d+ nodes are available|no nodes available", "cluster.full"),
    _rule(r"FailedScheduling|Insufficient (cpu|memory|pods|ephemeral-storage)|n.t trigger scale-up", "cluster.full"),
    _rule(r"The node was low on resource|Evicted", "cluster.full", transient=True),
    _rule(r"Preempted|Preempting|node .* (shutdown|not ready)|NodeLost", "cluster.full", transient=True),
    # the container
    _rule(r"Back-off restarting failed container|CrashLoopBackOff|OOMKilled", "server.crashed"),
    _rule(r"exec format error|executable file not found|StartError|RunContainerError|exit(ed with)? (code|status)",
          "server.crashed"),
    _rule(r"failed to start \[status=", "server.crashed"),
    # the Hub: jupyterhub/user.py, handlers/base.py; kubespawner/spawner.py
    _rule(r"did not start in \d+ seconds|timeout|timed out|didn't respond in|not done after", "server.timeout"),
    _rule(r"Spawn cancelled", "server.timeout", transient=True),
    _rule(r"Active user limit exceeded", "quota.hub"),
)  # fmt: skip

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z? ")
_SPAWN_FAILED = re.compile(r"^Spawn failed:?\s*")
_REFUSED = re.compile(r"Connection refused|Connection reset|Cannot connect|Temporary failure", re.IGNORECASE)


_KIND = re.compile(r"^\[(Warning|Normal)\] ")
# kubernetes_asyncio/client/exceptions.py, ApiException.__str__
_API_BODY = re.compile(r"HTTP response body: (\{.*\})", re.DOTALL)
_ADDRESS = re.compile(r"(https?://)?\b\d{1,3}(\.\d{1,3}){3}(:\d+)?(/[^\s\"]*)?")


def _readable(message: str) -> str:
    """Return the words themselves: no time, no kind, no frame of an API server's answer, no internal address."""
    text = _SPAWN_FAILED.sub("", _KIND.sub("", _TIME.sub("", message.strip()))).strip()
    body = _API_BODY.search(text)
    if body is not None:
        try:
            text = str(json.loads(body[1])["message"])
        except (ValueError, KeyError, TypeError):
            text = text.splitlines()[0]
    return _ADDRESS.sub("(an internal address)", text)


def spawn_failure(message: str, progress: Sequence[str] = ()) -> LaunchError:
    """Say why a server did not start.

    Parameters
    ----------
    message : str
        What the Hub said last: the `failed` event of the progress stream.
    progress : sequence of str
        What it said before, oldest first.

    Returns
    -------
    LaunchError
        `transient` when the same start may work if it is tried again at once.
    """
    own = _readable(message)
    warnings = standing_warnings(progress)
    # a cause beats a time-out: what the cluster warned about says why it took too long
    texts = [own, *reversed(warnings)]
    matches = [(rule, text) for text in texts for rule in RULES if rule.pattern.search(text)]
    matches.sort(key=lambda match: match[0].code == "server.timeout")
    detail = "\n".join(dict.fromkeys(filter(None, [own, *(_readable(text) for text in warnings[-3:])])))
    if matches:
        rule, _ = matches[0]
        return LaunchError(rule.code, detail=detail[:2000], transient=rule.transient)
    # unknown words: one more attempt tells whether it was a mishap
    return LaunchError("server.crashed", detail=detail[:2000], transient=bool(_REFUSED.search(own)))


# events that Kubernetes does not call warnings, and that tell why a pod does not start
_BAD_NEWS = re.compile(r"\[Warning\]|didn't trigger scale-up|Preempted by|Back-off pulling image")

# what a pod's later events say of its earlier warnings: they are over
_OVER = (
    (
        re.compile(r"Successfully assigned|TriggeredScaleUp|triggered scale-up", re.IGNORECASE),
        {"cluster.full"},
    ),
    (re.compile(r"Successfully pulled image|already present on machine", re.IGNORECASE), {"image.pull"}),
)


def standing_warnings(progress: Sequence[str]) -> list[str]:
    """Return the warnings among what the Hub said, less those that a later event has overtaken."""
    standing: list[tuple[str, str]] = []
    for text in progress:
        if _BAD_NEWS.search(text):
            code = next((rule.code for rule in RULES if rule.pattern.search(text)), "")
            standing.append((code, text))
            continue
        for pattern, codes in _OVER:
            if pattern.search(text):
                standing = [(code, warning) for code, warning in standing if code not in codes]
    return [text for _, text in standing]


def start_timeout(progress: Sequence[str] = ()) -> LaunchError:
    """Say why a server was not ready at the deadline: what the cluster warned about, where it did."""
    warnings = standing_warnings(progress)
    detail = "\n".join(dict.fromkeys(_readable(text) for text in warnings[-3:]))[:2000]
    for text in reversed(warnings):
        for rule in RULES:
            if rule.pattern.search(text):
                return LaunchError(rule.code, detail=detail)
    return LaunchError("server.timeout", detail=detail)


def hub_failure(error: HubError) -> LaunchError:
    """Say why the Hub did not do what it was asked.

    Returns
    -------
    LaunchError
        `transient` when a later request may be answered; `retry_after` as the Hub said.
    """
    if isinstance(error, HubBusy):
        full = "Active user limit" in error.message
        code = "quota.hub" if full else "hub.unreachable"
        return LaunchError(code, error.message, transient=True, retry_after=error.retry_after)
    if isinstance(error, HubRefused):
        if error.status >= 500:
            failure = spawn_failure(error.message)
            if failure.code != "server.crashed":
                return failure
        return LaunchError("hub.refused", error.message, transient=error.status >= 500)
    # the words of a broken connection name internal hosts: they belong into the log
    return LaunchError("hub.unreachable", transient=True, retry_after=error.retry_after)
