"""Loaded by the BinderHub service: see `binderhub_ext.local.service`."""

from binderhub_ext.local.service import configure
from binderhub_ext.local.settings import Settings

configure(get_config(), Settings.from_environment())  # type: ignore[name-defined]  # noqa: F821
