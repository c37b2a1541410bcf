"""What was seen before and after a restart, kept where a person finds it.

The last records are in memory, and in a folder when one is given (the chart mounts one that
outlives the container), so that a watchdog that was restarted still has them.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from binderhub_ext.timing import SYSTEM_CLOCK, Clock

from .decisions import Decision
from .observations import Observation
from .signs import Finding

KEEP = 50
MOST_FINDINGS = 100
"""Findings in one record: a Hub that lost everything has thousands, and a hundred tell the same."""

log = logging.getLogger("binderhub_ext.watchdog")


@dataclass
class Evidence:
    """The last `KEEP` records.

    Parameters
    ----------
    folder : Path or None
        Where `evidence.jsonl` is kept; None keeps them in memory only.
    """

    folder: Path | None = None
    clock: Clock = SYSTEM_CLOCK
    _records: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEEP))

    def __post_init__(self) -> None:
        if self._file is None or not self._file.exists():
            return
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
            self._records.extend(json.loads(line) for line in lines)
        except (OSError, ValueError) as error:
            log.warning("The evidence in %s cannot be read: %s", self._file, error)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records, the newest last."""
        return list(self._records)

    @property
    def _file(self) -> Path | None:
        return self.folder / "evidence.jsonl" if self.folder else None

    def keep(
        self, kind: str, decision: Decision, findings: Sequence[Finding], obs: Observation, **more: Any
    ) -> None:
        """Add a record.

        Parameters
        ----------
        kind : str
            "decision", "before", "after" or "orphan".
        more
            Facts of this kind, JSON values.
        """
        record = {
            "at": datetime.fromtimestamp(self.clock.time(), timezone.utc).isoformat(timespec="seconds"),
            "kind": kind,
            "decision": decision.as_dict()
            | {"reasons": [f.as_dict() for f in decision.reasons[:MOST_FINDINGS]]},
            "findings": [finding.as_dict() for finding in findings[:MOST_FINDINGS]],
            "findings_in_all": len(findings),
            "seen": obs.summary(),
            **more,
        }
        self._records.append(record)
        self._save()

    def _save(self) -> None:
        if self._file is None:
            return
        text = "".join(json.dumps(record) + "\n" for record in self._records)
        try:
            temporary = self._file.with_suffix(".new")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._file)
        except OSError as error:
            log.warning("The evidence could not be written to %s: %s", self._file, error)
