"""Who makes a call, as far as the transport can tell."""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Headers: TypeAlias = Sequence[tuple[str, str | bytes]]

ANY_PORT = 9  # nothing is sent there


class Caller:
    """Headers and address are looked at only where somebody asks. `address` gives the client's IP
    address; "" where something of ours stands between.
    """

    __slots__ = ("_address", "_headers")

    def __init__(
        self,
        headers: Callable[[], Iterable[tuple[str, str | bytes]] | None],
        address: Callable[[], str],
    ) -> None:
        self._headers = headers
        self._address = address

    def header(self, name: str) -> str:
        """The value of a header (lower case), the last one if there are several; "" without one."""
        found: str | bytes = ""
        for key, value in self._headers() or ():
            if key == name:
                found = value
        return found if isinstance(found, str) else found.decode(errors="replace")

    @property
    def is_local(self) -> bool:
        """Whether the client is known to be on this host."""
        return _is_own(self._address())


def of_context(context: Any) -> Caller:
    """The caller of a method of grpcio's."""
    return Caller(context.invocation_metadata, lambda: host_of(context.peer()))


def host_of(peer: str) -> str:
    """The address in what grpcio calls a peer: "ipv4:127.0.0.1:50000", "ipv6:%5B::1%5D:50000"."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


@lru_cache(maxsize=1024)
def _is_own(host: str) -> bool:
    """Whether the address is one of this host's: then its route begins and ends there."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect((str(address), ANY_PORT))
        except OSError:
            return False
        own: str = trial.getsockname()[0]
        return ip_address(own) == address
