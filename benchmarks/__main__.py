"""Run the benchmarks: ``python -m benchmarks [--only NAME] [--quick] [--peer-python PATH]``."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform
import resource
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.services import Bench, contenders

PARTS = {
    "many": "200 launches at once",
    "busy": "a short launch beside 12 long ones",
    "overhead": "what the service adds to a launch",
    "watchers": "2,000 watchers of one build",
    "memory": "what an idle watcher costs, and whether it is given back",
    "tabs": "50 tabs on one repository",
    "outage": "100 launches that wait for a Hub that is away for 20 s",
    "cache": "the Hub's cache of pods beside KubeSpawner's",
}
FILES = 16384


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {name:10}{about}" for name, about in PARTS.items()),
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=PARTS, help="run this part (repeatable)"
    )
    parser.add_argument("--quick", action="store_true", help="smaller numbers: to see that all works")
    parser.add_argument(
        "--peer-python", metavar="PATH", default=sys.executable,
        help="the interpreter whose binderhub is the peer; default: the one that runs this",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true", help="keep the folder with the logs, and say where it is"
    )
    return parser.parse_args()


def allow_many_files() -> None:
    """Raise the limit of open files, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run(options: argparse.Namespace, folder: Path) -> None:
    """Run the parts that were asked for."""
    found, missing = contenders(options.peer_python)
    bench = Bench(folder, options.quick, found, missing)
    versus = " against " + found[1].name if len(found) > 1 else ""
    print(f"{found[0].name}{versus}, {date.today()}, {platform.machine()}, {os.cpu_count()} CPUs, "
          f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    if missing:
        print(missing)
    for name in options.only or PARTS:
        await importlib.import_module(f"benchmarks.{name}").run(bench)


def main() -> int:
    options = arguments()
    allow_many_files()
    folder = Path(tempfile.mkdtemp(prefix="binderhub-ext-bench-"))
    try:
        asyncio.run(run(options, folder))
    except KeyboardInterrupt:
        return 130
    finally:
        if options.keep:
            print(f"logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
