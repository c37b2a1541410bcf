"""Loaded by JupyterHub: see `binderhub_ext.local.hub`."""

from binderhub_ext.local.hub import configure
from binderhub_ext.local.settings import Settings

configure(get_config(), Settings.from_environment())  # type: ignore[name-defined]  # noqa: F821
