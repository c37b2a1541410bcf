"""The launch flow for BinderHub.

A browser (or a program) asks for a repository; one event stream tells it what happens,
and ends with the address of a running Jupyter server::

    /v2/<provider>/<spec>     the page                      web/
    /build/<provider>/<spec>  the event stream              web/ -> stream/
        resolve the ref                                     launch/ -> upstream.py
        checks (ban, quota, rate)
        is the image there?
        build it (shared by all who want it)
        start a server on the Hub                           launch/ -> hub/
        ready: {url, token}                                 -> stream/ -> the browser

See ARCHITECTURE.md for who owns what.
"""

__version__ = "0.1.0"
