"""What operators can set about launches: BinderHub's `c.Launcher`, with the bounds of this package beside it."""

from __future__ import annotations

from jupyterhub.traitlets import Callable
from traitlets import Bool, Float, Integer

from binderhub_ext.upstream import UpstreamLauncher


class Launcher(UpstreamLauncher):
    """Settings of the launch flow. Carries the name of BinderHub's class, so that `c.Launcher` sets both."""

    # main has these, 0.1.0 has not
    launch_timeout = Integer(
        600,
        config=True,
        help="""
        Seconds from the moment a server is asked for until it must be ready: all attempts and
        waits together, not each. 600, as in BinderHub: a node may have to be added to the
        cluster, and a large image to be pulled.
        """,
    )
    retries = Integer(
        4,
        config=True,
        help="""
        How many times a server is started when it fails for a reason that may pass. Requests
        that the Hub does not answer are repeated until `launch_timeout`, however often that is.
        """,
    )
    retry_delay = Integer(
        1,
        config=True,
        help="""
        Seconds to wait before the second attempt; doubled for each further one, up to 15, half
        of it jitter. 1: most causes pass at once (BinderHub: 4).
        """,
    )
    pre_launch_hook = Callable(
        None,
        config=True,
        allow_none=True,
        help="""
        Called before a server is started, with (launcher, image, username, server_name,
        repo_url); may be async. Raising `tornado.web.HTTPError` refuses the launch with its text.
        """,
    )
    allow_named_servers = Bool(
        UpstreamLauncher.class_traits().get("allow_named_servers", Bool(False)).default_value,
        config=True,
        help="With authentication: give each launch a named server of its own.",
    )
    named_server_limit_per_user = Integer(
        UpstreamLauncher.class_traits().get("named_server_limit_per_user", Integer(0)).default_value,
        config=True,
        help="With named servers: how many a user may have. 0: no limit.",
    )

    # the other bounds
    resolve_timeout = Float(
        60.0,
        config=True,
        help="""
        Seconds to find out which commit a ref stands for. 60: hosts of repositories that answer
        at all answer in a few.
        """,
    )
    image_timeout = Float(
        30.0,
        config=True,
        help="""
        Seconds to find out whether the image is there already, all attempts together; and as many
        to get the credentials for pushing it. 30: a registry that takes longer would not serve the
        image either.
        """,
    )
    build_slot_timeout = Float(
        900.0,
        config=True,
        help="""
        Seconds to wait for other builds to end when `BinderHub.concurrent_build_limit` is
        reached. 900: longer than most builds take.
        """,
    )
    quota_wait = Float(
        0.0,
        config=True,
        help="""
        Seconds to wait for room when a quota of the repository or the Hub is full. 0: such a
        launch is refused at once, as in BinderHub.
        """,
    )
    hub_request_timeout = Float(
        30.0,
        config=True,
        help="""
        Seconds for one answer of the Hub, and between two signs of life of its progress stream.
        30: the Hub may take 10 (`slow_spawn_timeout`), and sends something every 8.
        """,
    )
    build_timeout = Float(
        14400.0,
        config=True,
        help="""
        Seconds that a build may take; then its pod is deleted. 14400 (4 hours), as BinderHub
        removes build pods after that time.
        """,
    )
    abandon_timeout = Float(
        60.0,
        config=True,
        help="""
        Seconds after which a launch that nobody watches is given up, and what it made on the
        Hub is removed. 60: a browser that lost its connection is back within a few.
        """,
    )
    abandon_builds = Bool(
        False,
        config=True,
        help="""
        Whether a build that nobody waits for any more is stopped too, and its pod deleted. False:
        the image will be wanted again. With several replicas the pod is shared: those who wait for
        it in another one see their build fail.
        """,
    )
    finished_retention = Float(
        600.0,
        config=True,
        help="""
        Seconds that the events of an ended launch are kept, for pages that are reloaded. The
        result outlives them: the Hub is asked.
        """,
    )
    ticket_lifetime = Float(
        86400.0,
        config=True,
        help="""
        Seconds for which a page may take its launch up again. 86400: a laptop that slept over
        night finds its server, if it still runs.
        """,
    )
    build_log_limit = Integer(
        4 << 20,
        config=True,
        help="""
        Bytes of a build's log that are kept for late-comers; the oldest lines are dropped first,
        and a line says how many. 4 MiB: some 40,000 lines.
        """,
    )
    keepalive_interval = Float(
        15.0,
        config=True,
        help="""
        Seconds after which a silent event stream sends a comment, so that proxies do not take it
        for dead. 15: below the 25 that clients may expect, and the 60 after which nginx gives up.
        """,
    )
    sweep_interval = Float(
        900.0,
        config=True,
        help="""
        Seconds between two looks for temporary users that a killed process of this service left
        on the Hub; the first is at the start. 900: what is left costs a pod at most.
        """,
    )
    launches_per_address = Integer(
        200,
        config=True,
        help="""
        How many launches one address may have under way at once. 200: a class-room behind one
        address. 0: no limit.
        """,
    )
    watchers_per_address = Integer(
        1000,
        config=True,
        help="""
        How many connections one address may watch launches with at once. 1000: as above, with
        several tabs each. 0: no limit.
        """,
    )
    shutdown_timeout = Float(
        10.0,
        config=True,
        help="""
        Seconds that the service takes to end after SIGTERM: streams are told to reconnect, and
        clean-up goes on meanwhile. 10: within Kubernetes' grace period of 30.
        """,
    )
