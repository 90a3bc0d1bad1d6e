"""Headers of calls: what a request says, what an answer begins and ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import grpc

from server.http2.compression import ACCEPTED, PLAIN, WINDOW_BITS, unknown
from server.http2.protocol import HeaderBlock
from server.rpc.status import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from server.http2.protocol import Header

KIND = b"application/grpc"
BEGIN: tuple[Header, ...] = (
    (b":status", b"200"),
    (b"content-type", KIND),
    (b"grpc-accept-encoding", ACCEPTED),
)
END_OK: tuple[Header, ...] = ((b"grpc-status", b"0"),)
BEGIN_BLOCK, END_BLOCK = HeaderBlock(BEGIN), HeaderBlock(END_OK)

SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
MAX_TIMEOUT_DIGITS = 8
UNRESERVED = "".join(chr(c) for c in range(0x20, 0x7F) if c != ord("%"))  # go as they are


class Asked(NamedTuple):
    """What a request's headers say. Where `http_status` is not 0, it is no request of gRPC."""

    headers: Sequence[Header] = ()
    path: bytes = b""
    encoding: bytes = PLAIN  # of messages that are compressed
    timeout_s: float | None = None
    problem: Failure | None = None
    http_status: int = 0


def asked(headers: Sequence[Header]) -> Asked:
    path = method = kind = b""
    encoding = PLAIN
    timeout_s: float | None = None
    problem: Failure | None = None
    for name, value in headers:
        if name == b":path":
            path = value
        elif name == b":method":
            method = value
        elif name == b"content-type":
            kind = value
        elif name == b"grpc-timeout":
            timeout_s = _seconds(value)
            if timeout_s is None:
                text = f"grpc-timeout {value!r}: digits and one of H, M, S, m, u, n are expected"
                problem = Failure(grpc.StatusCode.INTERNAL, text, ())
        elif name == b"grpc-encoding" and value != PLAIN:
            encoding = value
            if encoding not in WINDOW_BITS:
                problem = unknown(encoding)
    if method != b"POST":
        return Asked(http_status=405)
    if kind != KIND and not kind.startswith((KIND + b"+", KIND + b";")):
        return Asked(http_status=415)
    return Asked(headers, path, encoding, timeout_s, problem)


def texts(headers: Iterable[Header]) -> Iterator[tuple[str, str]]:
    """Headers as gRPC's metadata has them."""
    for name, value in headers:
        yield name.decode(errors="replace"), value.decode(errors="replace")


def trailers(failure: Failure) -> list[Header]:
    """How a call ends that fails."""
    status: int = failure.code.value[0]
    return [
        (b"grpc-status", b"%d" % status),
        (b"grpc-message", quote(failure.text, safe=UNRESERVED).encode()),
        *((name.encode(), value.encode()) for name, value in failure.metadata),
    ]


def _seconds(value: bytes) -> float | None:
    digits, unit = value[:-1], value[-1:]
    if not (digits.isdigit() and len(digits) <= MAX_TIMEOUT_DIGITS and unit in SECONDS):
        return None
    return int(digits) * SECONDS[unit]
