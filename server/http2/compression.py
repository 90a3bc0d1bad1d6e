"""Messages that the client has compressed, each by itself. What we send is never compressed."""

from __future__ import annotations

import zlib

import grpc

from server.http2.refusals import Refused, too_large
from server.rpc.status import Failure

WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # RFC 1952, RFC 1950
PLAIN = b"identity"
ACCEPTED = b",".join((PLAIN, *sorted(WINDOW_BITS)))


def unknown(encoding: bytes) -> Failure:
    """What a call is answered whose messages may be compressed so."""
    text = f"grpc-encoding {encoding!r}: this server takes {ACCEPTED.decode()}"
    return Failure(grpc.StatusCode.UNIMPLEMENTED, text, ())


def decompressed(message: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """Never more than `max_bytes`, nor much more memory than that. Raises Refused."""
    stream = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(message, max_bytes + 1)
    except zlib.error:
        raise Refused(_broken(encoding)) from None
    if len(plain) > max_bytes:
        raise Refused(too_large("Received", f"over {max_bytes} when decompressed", max_bytes))
    if not stream.eof or stream.unused_data:
        raise Refused(_broken(encoding))
    return plain


def _broken(encoding: bytes) -> Failure:
    text = f"a message is marked as compressed, but is not what {encoding.decode()} makes"
    return Failure(grpc.StatusCode.INTERNAL, text, ())


NOT_SAID_HOW = Failure(
    grpc.StatusCode.INTERNAL,
    "a message is marked as compressed in a call whose headers have no grpc-encoding",
    (),
)
