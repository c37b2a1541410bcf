"""The BinderHub service of the tests."""

import json
import os

from tests.support.scripted import ScriptedBuild, ScriptedProvider, hook

settings = json.loads(os.environ["BINDERHUB_EXT_TEST_SERVICE"])
c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.BinderHub.base_url = settings.get("base_url", "/")
c.BinderHub.hub_url = settings["hub_url"]
c.BinderHub.hub_api_token = settings["service_token"]
c.BinderHub.use_registry = False
c.BinderHub.builder_required = False
c.BinderHub.build_class = ScriptedBuild
c.BinderHub.repo_providers = {"test": ScriptedProvider}
c.BinderHub.cors_allow_origin = "*"
c.RateLimiter.limit = 0
c.Launcher.pre_launch_hook = hook
for name, value in settings.get("config", {}).items():
    section, trait = name.split(".")
    setattr(c[section], trait, value)
try:
    from binderhub.quota import LaunchQuota
except ImportError:
    pass  # 0.1.0
else:
    from tests.support.scripted_main import TelemetryFile, UncountedQuota, full_quota

    full = settings.get("config", {}).get("Tests.quota")
    quotas = {None: LaunchQuota, "uncounted": UncountedQuota}
    c.BinderHub.launch_quota_class = quotas.get(full) or full_quota(full)
    c.EventLog.handlers_maker = TelemetryFile
