"""Which process holds which session, among processes that share a directory.

A claim is a symbolic link, named by a digest of the session's id and pointing to the number of the
process. Making one either succeeds or finds the other's: no two processes can hold an id, and no
process has to be asked who does. In a file system that lives in memory this takes some
microseconds, and about a kilobyte of the kernel's memory for each session.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import LimitReached

if TYPE_CHECKING:
    from collections.abc import Hashable

_IN_MEMORY = Path("/dev/shm")
_DIGEST_BYTES = 16


class Claims:
    """Those of the process `number`, in `directory`."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number

    def claim(self, id: Hashable) -> bool:
        """Whether the id is this process's, from now on if nobody had it. Raises LimitReached."""
        while True:
            try:
                os.symlink(str(self._number), self._path(id))
            except FileExistsError:
                holder = self.holder(id)
                if holder is not None:  # else it was given back just now
                    return holder == self._number
            except OSError as error:
                raise LimitReached(
                    f"cannot note in {self._directory} that the session is here: {error.strerror}"
                ) from None
            else:
                return True

    def holder(self, id: Hashable) -> int | None:
        """The number of the process that holds the id, None if nobody does."""
        try:
            return int(os.readlink(self._path(id)))
        except FileNotFoundError:
            return None

    def give_back(self, id: Hashable) -> None:
        """The id, which this process holds, is free again."""
        os.unlink(self._path(id))

    def _path(self, id: Hashable) -> str:
        digest = hashlib.blake2b(repr(id).encode(), digest_size=_DIGEST_BYTES).hexdigest()
        return f"{self._directory}/{digest}"


def private_directory() -> tempfile.TemporaryDirectory[str]:
    """A new directory that only this user can read, in memory where that can be had."""
    place = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="rnnserve-", dir=place, ignore_cleanup_errors=True)


def forget_claims(directory: Path, number: int) -> int:
    """The process is no more: its sessions are gone. How many those were."""
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink() and os.readlink(entry) == str(number):
                os.unlink(entry)
                count += 1
    return count
