"""Prometheus metrics of the Hub process: reflectors and spawners. They appear in `/hub/metrics`.

Names begin with `binderhub_ext_`, end with the unit, and counters with `_total`. The service's
metrics are elsewhere: importing this module registers nothing of theirs.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge

AGE = Gauge(
    "binderhub_ext_reflector_age_seconds",
    "Seconds since the cache was known to be current",
    ["kind", "namespace"],
)
VERSION = Gauge(
    "binderhub_ext_reflector_resource_version",
    "Resource version up to which the cache knows every change",
    ["kind", "namespace"],
)
OBJECTS = Gauge("binderhub_ext_reflector_objects", "Objects in the cache", ["kind", "namespace"])
LISTS = Counter(
    "binderhub_ext_reflector_lists_total",
    "Full lists, by what was asked for: the most recent state, or one that is not older than the last",
    ["kind", "namespace", "step"],
)
WATCH_ENDS = Counter(
    "binderhub_ext_reflector_watch_restarts_total",
    "Watches that ended, by reason; `timeout` is the regular one",
    ["kind", "namespace", "reason"],
)
ERRORS = Counter(
    "binderhub_ext_reflector_errors_total",
    "Lists and watches that failed, by reason",
    ["kind", "namespace", "reason"],
)
BUSY = Counter(
    "binderhub_ext_reflector_busy_seconds_total",
    "Seconds of the event loop spent on parsing, in slices of a few milliseconds",
    ["kind", "namespace"],
)
LONGEST_BLOCK = Gauge(
    "binderhub_ext_reflector_longest_block_seconds",
    "The longest time for which parsing has held the event loop",
    ["kind", "namespace"],
)
TASK_RESTARTS = Counter(
    "binderhub_ext_reflector_task_restarts_total",
    "How often the task of a reflector ended by itself and was started again; any is a defect",
    ["kind", "namespace"],
)
READS = Counter(
    "binderhub_ext_spawner_reads_total",
    "Pods that were read directly because the cache could not answer, by result",
    ["result"],
)
LEFT_TO_DELETE = Gauge(
    "binderhub_ext_spawner_pods_left_to_delete",
    "Pods that could not be deleted yet, and are tried again in the background",
)
OVERDUE = Gauge(
    "binderhub_ext_spawner_overdue",
    "Starts, stops and polls that are older than their bound",
    ["action"],
)

for _result in ("found", "missing", "unknown"):
    READS.labels(_result)
for _action in ("start", "stop", "poll"):
    OVERDUE.labels(_action)
