"""Runs the tests of the page's own modules, which need no browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("module", sorted(path.name for path in HERE.glob("*.test.js")))
def test_module_of_the_page(module: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on PATH (make test brings one)")
    done = subprocess.run([node, "--test", module], cwd=HERE, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
