"""A process that waits for the supervisor's end, and ends whatever it left behind.

The supervisor cleans up after itself; when it is killed (SIGKILL), nobody else can. The guard
holds the other end of a pipe, and its read ends when the supervisor does, however that was.

Run as ``python -m binderhub_ext.local.guard RUN_ID SERVERS_DIR BUILDER``, with the pipe as its stdin.
It inherits the lock of the data directory, so that no new run starts before it is done.
"""

from __future__ import annotations

import shutil
import signal
import sys

from binderhub_ext.local import processes


def main(run_id: str, servers_dir: str, builder: str) -> None:
    """Wait for the end of stdin, then end the run's processes and remove its servers' files."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    sys.stdin.buffer.read()
    if processes.end_all(processes.RUN, run_id):
        if builder == "docker":
            from binderhub_ext.local import containers

            containers.remove_all(run_id)
        shutil.rmtree(servers_dir, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
