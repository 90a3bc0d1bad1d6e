"""What was sent and what came back, counted; and what should not have come back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """Something that the server should not have done. `request` is what it was sent last, as bytes
    and as far as it can be read.
    """

    what: str
    transport: str
    worker: int
    number: int  # of the worker's requests
    method: str
    request: bytes = b""
    readable: str = ""

    def save(self, path: Path) -> None:
        lines = (
            f"{self.what}\n\ntransport {self.transport}, worker {self.worker}, request "
            f"{self.number}: {self.method}\n\n{self.readable}\n\n{self.request.hex()}\n"
        )
        path.write_text(lines, encoding="utf-8")


@dataclass
class Tally:
    """`counts`: how often requests of a kind were answered with a status."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, status: str) -> None:
        self.counts[kind, status] += 1

    @property
    def requests(self) -> int:
        return self.counts.total()

    def by_status(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for (_, status), count in self.counts.items():
            total[status] += count
        return total
