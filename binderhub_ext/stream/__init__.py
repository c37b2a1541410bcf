"""Replay and fan-out of Server-Sent Events: what was said, and who has heard how much. No Tornado.

EventLog      frames in order, bounded in bytes; a build has one, shared by all its launches
LaunchStream  what one launch says: its own events with the shared logs spliced in, numbered
Watcher       one reader's position in a LaunchStream
"""

from binderhub_ext.stream.launch_stream import LaunchStream, Watcher
from binderhub_ext.stream.log import EventLog

__all__ = ["EventLog", "LaunchStream", "Watcher"]
