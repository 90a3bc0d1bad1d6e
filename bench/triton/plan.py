"""Who is measured under which load, and what is compared with what: data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["streamed", "unary", "frames"]
Field = Literal["steps_per_s", "p50_us", "server_us", "client_us"]

MODEL = "lstm64"
TRITON, OURS = "Triton", "rnnserve"
HTTP2, NATIVE = "rnnserve, http2", "rnnserve, native"
SERVE_OPTIONS = {
    OURS: ("--transport", "grpcio"),
    HTTP2: ("--transport", "http2"),
    NATIVE: ("--transport", "native"),
}


@dataclass(frozen=True)
class Load:
    """`sessions` with one step of each outstanding, sent in that way."""

    how: How
    sessions: int

    def __str__(self) -> str:
        return f"{self.sessions} {self.how}"


@dataclass(frozen=True)
class Comparison:
    """Figure `field` of our server `name` under `load` over Triton's under `theirs`."""

    what: str
    name: str
    load: Load
    theirs: Load
    field: Field
    wanted: str = ""


STREAMED = {sessions: Load("streamed", sessions) for sessions in (1, 64, 256)}
UNARY = {sessions: Load("unary", sessions) for sessions in (1, 64, 256)}
FRAME = {sessions: Load("frames", sessions) for sessions in (64, 256)}


def _same(what: str, name: str, load: Load, wanted: str = "") -> Comparison:
    """One load on both: the latency of a single session, else the throughput of all."""
    figure, field = ("p50", "p50_us") if load.sessions == 1 else ("steps/s", "steps_per_s")
    return Comparison(f"{what}, {figure}", name, load, load, field, wanted)  # type: ignore[arg-type]


COMPARISONS = (
    _same("one streamed", OURS, STREAMED[1], "≤ 0.8"),
    _same("one streamed, http2 transport", HTTP2, STREAMED[1], "≤ 0.8"),
    _same("64 streamed", OURS, STREAMED[64], "≥ 1.5"),
    _same("64 streamed, http2 transport", HTTP2, STREAMED[64], "≥ 1.5"),
    _same("256 streamed", OURS, STREAMED[256]),
    _same("256 streamed, http2 transport", HTTP2, STREAMED[256]),
    Comparison(
        "64 in a frame over 64 streamed, steps/s",
        *(OURS, FRAME[64], STREAMED[64], "steps_per_s", "≥ 20"),
    ),
    Comparison(
        "256 in a frame over 256 streamed, steps/s",
        *(OURS, FRAME[256], STREAMED[256], "steps_per_s", "≥ 20"),
    ),
    _same("one unary", OURS, UNARY[1]),
    _same("one unary, http2 transport", HTTP2, UNARY[1], "≤ 0.6"),
    _same("one unary, native transport", NATIVE, UNARY[1], "≤ 0.6"),
    _same("64 unary", OURS, UNARY[64]),
    _same("64 unary, http2 transport", HTTP2, UNARY[64], "≥ 2.5"),
    _same("64 unary, native transport", NATIVE, UNARY[64], "≥ 2.5"),
    _same("256 unary", OURS, UNARY[256]),
    _same("256 unary, http2 transport", HTTP2, UNARY[256], "≥ 2.5"),
    _same("256 unary, native transport", NATIVE, UNARY[256], "≥ 2.5"),
)


def turns(names: set[str]) -> list[tuple[str, Load]]:
    """What is measured in one round, in this order: who is compared comes one after the other.

    Without our servers that are not in `names`.
    """
    pairs = [c for c in COMPARISONS if c.name in names]
    both = [turn for c in pairs for turn in ((c.name, c.load), (TRITON, c.theirs))]
    return list(dict.fromkeys(both))
