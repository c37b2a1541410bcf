"""The Hub watchdog: finds a Hub that lost touch with its pods, and restarts it.

It runs outside the Hub, and believes neither side alone::

    hub.py      what the Hub says      --+
    cluster.py  what the cluster says  --+--> observations.py --> signs.py ----> decisions.py --> watch.py
    launches.py how launches end       --+    one look            what stands     what to do      does it
    canary.py   one launch of its own  --+                        for how long
                                                                                  lease.py: who may, and
    evidence.py keeps what was seen before and after; web.py shows it             what was done before
    pending.py  how old the Hub's starts and stops are, as a metric

`signs.py`, `decisions.py` and `pending.py` do no I/O and take their time from a clock that is handed in.
"""
