"""The examples of the standard, and chunks cut at every byte."""

import pytest

from binderhub_ext.sse import Decoder, EventTooLarge, encode_data


def decode(raw: bytes, step: int) -> list[tuple[str, str, str]]:
    decoder = Decoder()
    events = []
    for i in range(0, len(raw), step):
        events += [(e.event, e.data, e.id) for e in decoder.feed(raw[i : i + step])]
    return events


STANDARD = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
    (b"data:test\n\ndata: test\n\n", [("message", "test", ""), ("message", "test", "")]),
    (b"event: add\r\ndata: 73857293\r\n\r\n", [("add", "73857293", "")]),
    (b"data: a\r\rdata: b\r\r\n", [("message", "a", ""), ("message", "b", "")]),
    (b"\xef\xbb\xbfdata: bom\n\n", [("message", "bom", "")]),
    ("data: Grüße 🚀\n\n".encode(), [("message", "Grüße 🚀", "")]),
    (b"data: \xff\xfe\n\n", [("message", "\ufffd\ufffd", "")]),
]


@pytest.mark.parametrize("raw, events", STANDARD)
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_events_are_decoded_wherever_the_chunks_are_cut(raw, events, step):
    assert decode(raw, step) == events


def test_an_id_with_nul_is_ignored():
    assert decode(b"id: a\ndata: 1\n\nid: b\0c\ndata: 2\n\n", 7) == [
        ("message", "1", "a"),
        ("message", "2", "a"),
    ]


def test_an_event_without_end_does_not_fill_the_memory():
    decoder = Decoder(max_event_bytes=1000)
    with pytest.raises(EventTooLarge):
        for _ in range(1000):
            list(decoder.feed(b"data: xxxxxxxxxxxxxxxx\n"))


def test_data_is_written_as_existing_readers_grep_it():
    assert (
        encode_data({"phase": "ready", "url": "http://h/"})
        == b'data: {"phase": "ready", "url": "http://h/"}\n\n'
    )
