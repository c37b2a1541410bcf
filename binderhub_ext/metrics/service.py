"""The metrics of the service, at its /metrics beside BinderHub's own (see upstream.py for those)."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, float("inf"))

STAGE_SECONDS = Histogram(
    "binderhub_ext_stage_seconds",
    "Time that launches spent in a stage, in seconds",
    ["stage", "result"],
    buckets=SECONDS,
)
OUTCOMES = Counter(
    "binderhub_ext_launch_outcomes_total",
    "Launches that ended, by outcome: ready, built (build only), failed, refused (quota, rate, ban), abandoned",
    ["outcome"],
)
FAILURES = Counter("binderhub_ext_failures_total", "Launches that failed, by error code", ["code"])
LAUNCHES = Gauge("binderhub_ext_launches", "Launches that have not ended")
WATCHERS = Gauge("binderhub_ext_watchers", "Connections that watch a launch")
RECONNECTS = Counter("binderhub_ext_reconnects_total", "Watchers that came back to a launch of this process")
RESUMED = Counter("binderhub_ext_resumed_launches_total", "Launches taken over from another process")
RETRIES = Counter(
    "binderhub_ext_retries_total", "Attempts to start a server that failed and were repeated", ["code"]
)
QUEUE = Gauge("binderhub_ext_queue_length", "Launches that wait in line", ["queue"])
BREAKER = Gauge(
    "binderhub_ext_hub_breaker_state", "Circuit breaker around the Hub: 0 closed, 1 half open, 2 open"
)
CLEANUP_BACKLOG = Gauge("binderhub_ext_cleanup_backlog", "Leftovers of launches that the Hub still has")
CLEANUP_OLDEST = Gauge("binderhub_ext_cleanup_oldest_seconds", "Age of the oldest leftover, in seconds")
CLEANUP_REMOVED = Counter("binderhub_ext_cleanup_removed_total", "Leftovers that were removed")
CLEANUP_DROPPED = Counter(
    "binderhub_ext_cleanup_dropped_total", "Leftovers dropped because the backlog was full"
)

for _outcome in ("ready", "built", "failed", "refused", "abandoned"):
    OUTCOMES.labels(outcome=_outcome)
