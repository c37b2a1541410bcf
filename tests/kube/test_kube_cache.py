"""The cache and the parsing of what comes into it: exact answers, no sockets, no waiting."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderhub_ext.kube.cache import Cache, version_number
from binderhub_ext.kube.entries import Entry
from binderhub_ext.kube.parsing import Lines, Slicer, parse_list


def pod(name="a", rv=1, uid="u1", **status):
    return {
        "metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(rv)},
        "status": status,
    }


def entry(obj):
    return Entry.of(obj, packed=False)


def event(kind, obj):
    return {"type": kind, "object": obj}


# the cache


def test_an_older_version_of_an_object_changes_nothing():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_event(event("MODIFIED", pod(rv=4, phase="Pending")))
    assert cache.objects["n/a"]["metadata"]["resourceVersion"] == "5"
    assert cache.version == "5"


def test_a_bookmark_and_a_deletion_move_the_resource_version_on():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_event(event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}))
    assert cache.version == "9"
    cache.fold_event(event("DELETED", pod(rv=11)))
    assert (cache.version, cache.objects) == ("11", {})


def test_what_a_direct_read_found_outlives_an_older_list():
    cache = Cache()
    cache.fold_list([], "5")
    cache.fold_read(pod(rv=8))
    cache.fold_list([], "7")
    assert "n/a" in cache.objects
    cache.fold_list([], "9")
    assert cache.objects == {}


def test_what_a_direct_read_missed_does_not_come_back_from_a_late_watch():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_missing("n/a")
    cache.fold_event(event("MODIFIED", pod(rv=6)))
    assert cache.objects == {}
    cache.fold_event(event("DELETED", pod(rv=7)))
    cache.fold_event(event("ADDED", pod(rv=8, uid="u2")))
    assert cache.objects["n/a"]["metadata"]["uid"] == "u2"


def test_the_deletion_of_an_older_object_leaves_the_newer_one_of_the_same_name():
    cache = Cache()
    cache.fold_list([], "1")
    cache.fold_read(pod(rv=9, uid="u2"))
    cache.fold_event(event("DELETED", pod(rv=7, uid="u1")))
    assert "n/a" in cache.objects


def test_a_restored_cluster_whose_versions_are_lower_is_believed():
    cache = Cache()
    cache.fold_list([entry(pod(rv=500))], "500")
    cache.fold_list([entry(pod(rv=20))], "20")
    assert (cache.version, cache.objects["n/a"]["metadata"]["resourceVersion"]) == ("20", "20")


def test_changes_are_told_after_they_happened():
    told = []
    cache = Cache(lambda key: told.append((key, key in cache.objects)))
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_list([entry(pod(rv=5))], "6")
    cache.fold_event(event("DELETED", pod(rv=7)))
    assert told == [("n/a", True), ("n/a", False)]


def test_an_unknown_event_changes_nothing():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    with pytest.raises(KeyError):
        cache.fold_event(event("SYNC", pod(rv=9)))
    assert cache.version == "5"


@pytest.mark.parametrize("text, number", [("12", 12), ("", None), ("1a", None), (None, None), ("٣", None)])
def test_only_decimal_resource_versions_are_compared(text, number):
    assert version_number(text) == number


# parsing


@given(st.lists(st.integers(0, 9)), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_any_list_is_parsed_item_by_item(numbers, items_first, indent, packed):
    items = [pod(name=f"p{number}", rv=number, note='"items":[') for number in numbers]
    metadata = {"resourceVersion": "7", "continue": ""}
    body = {"items": items, "metadata": metadata} if items_first else {"metadata": metadata, "items": items}
    text = json.dumps({"kind": "PodList", **body}, indent=indent)
    found, rest = asyncio.run(parse_list(text.encode(), Slicer(), packed=packed))
    assert ([one.object() for one in found], rest) == (items, metadata)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"items":[{]}',
        b'{"items":[1]}',
        b'{"items":[]}',
        b'{"items":[{"metadata":{}}',
    ],
)
async def test_what_is_no_list_is_a_value_error(body):
    with pytest.raises(ValueError):
        await parse_list(body, Slicer())


async def test_a_long_list_lets_others_in():
    body = json.dumps(
        {"metadata": {"resourceVersion": "1"}, "items": [pod(name=f"p{n}") for n in range(3000)]}
    )
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(tick())
    await parse_list(body.encode(), Slicer(slice_seconds=0.001))
    ticker.cancel()
    assert ticks > 3


@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip())), st.data())
def test_lines_come_out_whole_however_they_are_cut(wanted, data):
    stream = b"".join(line + b"\n" for line in wanted)
    lines, found = Lines(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += lines.feed(stream[:size])
        stream = stream[size:]
    assert found == wanted
