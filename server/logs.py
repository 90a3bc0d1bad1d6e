"""Logging: lines for people on a console, JSON for machines. One line per event, on stderr.

What is logged can be changed while the server runs. structlog keeps one configuration for the whole
process; what was chosen stands in there, too.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor

KINDS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Which events are logged, in the words of the protocol's logging extension. A
    `log_verbose_level` above 0 adds those that are only for finding faults. With `ISO8601` lines
    for people have a date; those for machines always do.
    """

    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: Literal["default", "ISO8601"] = "default"

    def wanted(self) -> list[str]:
        """The kinds of events that are logged, the least first."""
        chosen = (self.log_verbose_level > 0, self.log_info, self.log_warning, self.log_error)
        return [kind for kind, is_on in zip(KINDS, chosen, strict=True) if is_on]


def configure(format: str, level: str) -> None:
    """`format`: "console" or "json"; `level`: "debug" to "error"."""
    rank = KINDS.index(level)
    settings = LogSettings(
        log_info=rank <= 1, log_warning=rank <= 2, log_verbose_level=int(rank == 0)
    )
    _apply(settings, for_machines=format == "json")


def settings() -> LogSettings:
    """Those that count now."""
    return _chosen().settings


def change(settings: LogSettings) -> None:
    """From the next event on."""
    _apply(settings, for_machines=_chosen().for_machines)


class _Chosen:
    """Remembers what was chosen, and drops what is not wanted although it is graver than something
    that is.
    """

    def __init__(self, settings: LogSettings, *, for_machines: bool) -> None:
        self.settings = settings
        self.for_machines = for_machines
        self._dropped = frozenset(KINDS).difference(settings.wanted())

    def __call__(
        self, logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if method in self._dropped:
            raise structlog.DropEvent
        return event


def _chosen() -> _Chosen:
    for processor in structlog.get_config()["processors"]:
        if isinstance(processor, _Chosen):
            return processor
    return _Chosen(LogSettings(), for_machines=False)


def _apply(settings: LogSettings, *, for_machines: bool) -> None:
    with_date = for_machines or settings.log_format == "ISO8601"
    lowest = next(iter(settings.wanted()), "critical")
    structlog.configure(
        processors=[
            _Chosen(settings, for_machines=for_machines),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if with_date else "%H:%M:%S"),
            *_renderers(for_machines),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, lowest.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _renderers(for_machines: bool) -> list[Processor]:
    if for_machines:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            # the default also prints local variables: requests, and the tokens in them
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
