"""gRPC's framing, cut in every way."""

from __future__ import annotations

import struct

import pytest
from grpc import StatusCode

from server.http2.messages import Messages, framed
from server.http2.refusals import Refused

WHOLE = [b"", b"a", bytes(300), b"", b"last"]
STREAM = b"".join(framed(message) for message in WHOLE)


def taken(messages: Messages) -> list[bytes]:
    found = []
    while (message := messages.next()) is not None:
        found.append(message)
    return found


def test_many_in_one_chunk() -> None:
    messages = Messages(300)
    messages.add(STREAM)
    assert taken(messages) == WHOLE
    assert not messages


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_cut_at_any_byte(cut: int) -> None:
    messages = Messages(300)
    messages.add(STREAM[:cut])
    first = taken(messages)
    messages.add(STREAM[cut:])
    assert first + taken(messages) == WHOLE
    assert not messages


def test_byte_by_byte() -> None:
    messages, found = Messages(300), []
    for n in range(len(STREAM)):
        messages.add(STREAM[n : n + 1])
        found += taken(messages)
    assert found == WHOLE


def test_what_is_too_large_is_refused_by_its_length() -> None:
    messages = Messages(300)
    messages.add(struct.pack(">BI", 0, 301))
    with pytest.raises(
        Refused, match=r"Received message larger than max \(301 vs. 300\)"
    ) as caught:
        messages.next()
    assert caught.value.failure.code is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(("encoding", "flag"), [(b"identity", 1), (b"gzip", 2)])
def test_flags_that_mean_nothing_are_refused_at_once(encoding: bytes, flag: int) -> None:
    messages = Messages(300)
    messages.encoding = encoding
    messages.add(struct.pack(">BI", flag, 3))
    with pytest.raises(Refused) as caught:
        messages.next()
    assert caught.value.failure.code is StatusCode.INTERNAL


@pytest.mark.parametrize("stream", [b"", b"\0\0", framed(b"a")[:-1], framed(b"a") + b"\0"])
def test_exactly_one(stream: bytes) -> None:
    messages = Messages(300)
    messages.add(stream)
    with pytest.raises(Refused, match="exactly one"):
        messages.only()
