"""Regions of POSIX shared memory (`/dev/shm`) that clients have made and registered by name.

Tensors are read and written by system calls on the open segment, not through a mapping. Whoever
made a segment may cut it short at any time, and its file system may be full: a mapping would then
end the server with SIGBUS, where a call fails and a request is refused. It costs 0.6 µs a call, and
about 50 µs more for each MiB than copying out of a mapping.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from server.errors import (
    InvalidRequest,
    LimitReached,
    NotAllowed,
    RegionExists,
    RegionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

DIRECTORY = Path("/dev/shm")
MAX_NAME_BYTES = 256

Policy = Literal["local", "all", "off"]  # which clients may use it: those on this host, …


class Caller(Protocol):
    @property
    def is_local(self) -> bool:
        """Whether the client is known to be on this host."""


class Region:
    """`byte_size` bytes of the segment `key`, from `offset` on.

    The segment stays open for as long as somebody holds the region, be it a registry or a request
    that is under way. All offsets below count from the region's beginning.
    """

    def __init__(self, name: str, key: str, offset: int, byte_size: int, file: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self._file = file
        weakref.finalize(self, os.close, file)

    def check(self, offset: int, byte_size: int) -> None:
        """Raises InvalidRequest where that is not in the region, whatever its segment is like."""
        if not 0 <= offset < self.byte_size:
            raise InvalidRequest(
                f"Invalid offset for shared memory region: '{self.name}': it has "
                f"{self.byte_size} bytes, got offset {offset}"
            )
        if not 0 < byte_size <= self.byte_size - offset:
            raise InvalidRequest(
                f"Invalid offset + byte size for shared memory region: '{self.name}': it has "
                f"{self.byte_size} bytes, got offset {offset} and byte size {byte_size}"
            )

    def read(self, offset: int, byte_size: int) -> bytes:
        """A copy of what is there now. Raises InvalidRequest."""
        pieces = []
        start, end = self.offset + offset, self.offset + offset + byte_size
        while start < end and (piece := os.pread(self._file, end - start, start)):
            pieces.append(piece)
            start += len(piece)
        if start < end:
            raise self._cut_short()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def reserve(self, offset: int, byte_size: int) -> None:
        """Make sure that so much can be written there. Raises InvalidRequest."""
        start = self.offset + offset
        if os.fstat(self._file).st_size < start + byte_size:
            raise self._cut_short()
        try:
            os.posix_fallocate(self._file, start, byte_size)
        except OSError as error:
            raise self._not_writable(error) from None

    def write(self, offset: int, array: NDArray[Any]) -> None:
        """The array's elements, little-endian and row-major. Raises InvalidRequest."""
        left = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        start = self.offset + offset
        if os.fstat(self._file).st_size < start + len(left):  # writing there would make it longer
            raise self._cut_short()
        try:
            while left:
                written = os.pwrite(self._file, left, start)
                left, start = left[written:], start + written
        except OSError as error:
            raise self._not_writable(error) from None

    def _cut_short(self) -> InvalidRequest:
        return InvalidRequest(
            f"shared memory region '{self.name}' ends before its {self.byte_size} bytes: its "
            f"segment '{self.key}' has been cut short; make it anew and register it again"
        )

    def _not_writable(self, error: OSError) -> InvalidRequest:
        return InvalidRequest(
            f"cannot write to shared memory region '{self.name}', segment '{self.key}': "
            f"{error.strerror}"
        )

    def __repr__(self) -> str:
        return f"<Region {self.name!r}: {self.byte_size} bytes of {self.key!r} at {self.offset}>"


class Regions:
    """Those that are registered. Each takes a file descriptor, of which half are left to
    connections.
    """

    def __init__(self, max_regions: int | None = None) -> None:
        if max_regions is None:
            max_regions = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._max_regions = max_regions
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Raises InvalidRequest, RegionExists, RegionNotFound where there is no segment of that
        key, LimitReached.
        """
        if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            raise InvalidRequest(
                f"failed to register shared memory region '{name}': invalid args: expected a name "
                f"of 1 to {MAX_NAME_BYTES} bytes"
            )
        if name in self._regions:
            raise RegionExists(
                f"shared memory region '{name}' already in manager; unregister it first"
            )
        if len(self._regions) >= self._max_regions:
            raise LimitReached(
                f"{len(self._regions)} shared memory regions are registered, as many as this "
                "server may have files open beside connections; unregister some, or raise its "
                "limit of open files"
            )
        file = _opened(name, key)
        region = Region(name, key, offset, byte_size, file)  # closes the file from here on
        found = os.fstat(file)
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        if byte_size == 0 or offset + byte_size > size:
            raise InvalidRequest(
                f"failed to register shared memory region '{name}': invalid args: expected 1 to "
                f"{max(0, size - offset)} bytes from offset {offset} of '{key}', which has {size} "
                f"bytes, got {byte_size}"
            )
        self._regions[name] = region

    def unregister(self, name: str) -> None:
        """That one if there is one, or all (""). Requests under way keep what they have."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def find(self, name: str) -> Region:
        """For a tensor. Raises RegionNotFound."""
        region = self._regions.get(name)
        if region is None:
            raise RegionNotFound(
                f"Unable to find shared memory region: '{name}'; register it first, and again "
                "after the server, or one of its processes, was started anew"
            )
        return region

    def status(self, name: str = "") -> Iterable[Region]:
        """Of that one, or of all (""). Raises RegionNotFound."""
        if not name:
            return self._regions.values()
        if name not in self._regions:
            raise RegionNotFound(f"Unable to find system shared memory region: '{name}'")
        return [self._regions[name]]


def check_allowed(policy: Policy, caller: Caller) -> None:
    """Raises NotAllowed where the caller may not use shared memory."""
    if policy == "off":
        raise NotAllowed(
            "this server offers no shared memory (setting shared_memory: off); send tensors in the "
            "request, or have the server started with --shared-memory local"
        )
    if policy == "local" and not caller.is_local:
        raise NotAllowed(
            "this server offers shared memory only to clients that it knows to be on its own host "
            "(setting shared_memory: local); send tensors in the request, or have the server "
            "started with --shared-memory all"
        )


def _opened(name: str, key: str) -> int:
    """The segment as shm_open(3) would open it: what is in the directory, and no link. Raises
    InvalidRequest, RegionNotFound, LimitReached.
    """
    file_name = key.lstrip("/")
    if file_name in ("", ".", "..") or "/" in file_name or "\0" in file_name:
        raise InvalidRequest(
            f"failed to register shared memory region '{name}': invalid args: the key of a segment "
            f"is one name, with or without a slash before it, got {key!r}"
        )
    try:
        return os.open(DIRECTORY / file_name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RegionNotFound(
            f"Unable to open shared memory region: '{key}': there is no such segment in "
            f"{DIRECTORY}; is it this server's, if one of you is in a container?"
        ) from None
    except OSError as error:
        text = f"Unable to open shared memory region: '{key}': {error.strerror}"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise LimitReached(text) from None
        raise InvalidRequest(text) from None
