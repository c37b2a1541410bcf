"""Why a local run cannot start or go on: always one line, for whoever typed the command."""

from __future__ import annotations


class LocalFailure(Exception):
    """The run ends; the text is one line that says why and what to do."""
