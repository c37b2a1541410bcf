"""The BinderHub service with this package's launch flow: traits and wiring, nothing else."""

from __future__ import annotations

from binderhub.app import BinderHub


class BinderHubExt(BinderHub):
    """BinderHub, with the launch flow of this package."""


main = BinderHubExt.launch_instance
