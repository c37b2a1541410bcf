"""The service of the benchmarks: this package's, or BinderHub's own."""

import json
import os

from benchmarks.scripted import IS_MAIN, Build, Provider

settings = json.loads(os.environ["BINDERHUB_EXT_BENCHMARK"])
c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.BinderHub.hub_url = settings["hub_url"]
c.BinderHub.hub_api_token = settings["token"]
c.BinderHub.builder_required = False
c.BinderHub.build_class = Build
c.BinderHub.repo_providers = {"test": Provider}
c.BinderHub.use_registry = False
c.RateLimiter.limit = 0
if IS_MAIN:
    from binderhub.quota import LaunchQuota

    from benchmarks.scripted import Registry

    c.BinderHub.use_registry = True
    c.BinderHub.image_prefix = "benchmarks/"
    c.BinderHub.registry_class = Registry
    c.BinderHub.launch_quota_class = LaunchQuota
for name, value in settings["config"].items():
    section, trait = name.split(".")
    setattr(c[section], trait, value)
