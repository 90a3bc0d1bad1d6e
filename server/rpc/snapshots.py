"""A session as bytes: 8 of a mark and the format's version, 16 of a checksum (BLAKE2b), the rest a
`SnapshotContents`.

A snapshot is bound to the digest of its model: states mean nothing to another one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from rnnserve.v1 import session_pb2 as pb
from server.errors import SnapshotRefused
from server.rpc.states import encode_constants, encode_states
from server.serving import home_of

if TYPE_CHECKING:
    from server.core.requests import States
    from server.core.session import Session
    from server.serving import ServedModel, Serving

_MARK = b"rnnsess"
_VERSION = 1
_HEADER = _MARK + bytes([_VERSION])
_CHECKSUM_BYTES = 16
MAX_STEP = 2**62  # beyond, a session could not count on


def pack(session: Session, read: States) -> bytes:
    """The session with the states that were read."""
    model = home_of(session)
    contents = pb.SnapshotContents(
        model_name=model.spec.name,
        model_version=str(model.spec.version),
        model_digest=model.spec.digest,
        batch_size=session.batch_size,
        step=read.step,
        fresh=read.fresh,
        states=encode_states(model, read.states),
        constants=encode_constants(model, read.states),
    ).SerializeToString()
    return _HEADER + _checksum(contents) + contents


def unpack(snapshot: bytes) -> pb.SnapshotContents:
    """Raises SnapshotRefused."""
    if not snapshot.startswith(_MARK):
        raise SnapshotRefused(f"this is no snapshot of a session: {len(snapshot)} bytes")
    start = len(_HEADER)
    if snapshot[:start] != _HEADER:
        raise SnapshotRefused(
            f"the snapshot is of format version {snapshot[start - 1 : start].hex() or 'none'}; "
            f"this server reads version {_VERSION:02x}"
        )
    checksum, contents = snapshot[start:][:_CHECKSUM_BYTES], snapshot[start + _CHECKSUM_BYTES :]
    if checksum != _checksum(contents):
        raise SnapshotRefused("the snapshot is damaged: its checksum does not fit")
    try:
        unpacked = pb.SnapshotContents.FromString(contents)
    except DecodeError as error:
        raise SnapshotRefused(f"the snapshot is damaged: {error}") from None
    if unpacked.step > MAX_STEP:
        raise SnapshotRefused(f"the snapshot is damaged: it counts {unpacked.step} steps")
    return unpacked


def model_of(
    serving: Serving, contents: pb.SnapshotContents, name: str, version: str
) -> ServedModel:
    """The model to restore on: the one asked for, or whichever the snapshot is of. Raises
    SnapshotRefused where its digest is another, ModelNotFound, InvalidRequest.
    """
    if version:
        candidates = [serving.model(name or contents.model_name, version)]
    else:
        candidates = [model for model in serving.models() if name in ("", model.spec.name)] or [
            serving.model(name)
        ]
    fitting = [model for model in candidates if model.spec.digest == contents.model_digest]
    if fitting:
        named = contents.model_name, contents.model_version
        return max(
            fitting, key=lambda m: (m.spec.name == named[0], str(m.spec.version) == named[1])
        )
    asked = f"model '{name}' is another one" if name else "this server has no such model"
    raise SnapshotRefused(
        f"the snapshot is of model '{contents.model_name}' version {contents.model_version}, "
        f"digest {contents.model_digest[:12]}…, and {asked}"
    )


def _checksum(contents: bytes) -> bytes:
    return hashlib.blake2b(contents, digest_size=_CHECKSUM_BYTES).digest()
