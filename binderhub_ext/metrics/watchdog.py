"""The watchdog's metrics. They are exposed at its own `/metrics`.

All begin with `binderhub_ext_watchdog_`. Label values are created up front, so that a rate over a
counter that never counted is 0 and not absent.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

PREFIX = "binderhub_ext_watchdog_"

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)

ROUNDS = Counter(PREFIX + "rounds", "Looks at the Hub and the cluster")
ROUND_SECONDS = Histogram(
    PREFIX + "round_seconds", "Time that one look and what follows from it took", buckets=SECONDS
)
LEADER = Gauge(PREFIX + "leader", "1: this watchdog holds the Lease and may act")
ANSWERS = Gauge(PREFIX + "answers", "1: this side answered at the last look", ["side"])
SUBJECTS = Gauge(
    PREFIX + "sign_subjects", "Servers, pods or other subjects that show this sign now", ["sign"]
)
OLDEST = Gauge(
    PREFIX + "sign_oldest_seconds", "For how long the oldest subject has shown this sign", ["sign"]
)
STANDS = Gauge(PREFIX + "sign_stands", "1: this sign has been there for its whole bound", ["sign"])
OLDEST_PENDING = Gauge(
    PREFIX + "oldest_pending_seconds", "For how long the oldest start or stop has been pending", ["action"]
)
DECISIONS = Counter(PREFIX + "decisions", "Rounds by what was decided", ["action"])
RESTARTS = Counter(
    PREFIX + "restarts", "Restarts of the Hub that were done, by the sign that stood longest", ["sign"]
)
RESTART_ERRORS = Counter(PREFIX + "restart_errors", "Restarts that were decided and could not be done")
RECOVERY_SECONDS = Histogram(
    PREFIX + "recovery_seconds",
    "From a restart until the new Hub answers",
    buckets=(5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600),
)
ORPHANS_DELETED = Counter(PREFIX + "orphans_deleted", "Pods of servers that the Hub does not know, deleted")
CANARY_RUNS = Counter(PREFIX + "canary_runs", "Launches of the canary", ["result"])
CANARY_SECONDS = Gauge(PREFIX + "canary_seconds", "How long the canary's last successful launch took")
CANARY_SUCCESS = Gauge(PREFIX + "canary_last_success_timestamp_seconds", "When the canary last succeeded")

for side in ("hub", "api_server", "service"):
    ANSWERS.labels(side)
for result in ("ok", "failed"):
    CANARY_RUNS.labels(result)
