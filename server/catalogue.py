"""Which models are served, by name and version, and what has become of those that are not.

New sessions go to the versions that are ready. Those that were replaced or unloaded are leaving:
their sessions go on until they are closed or have to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from server.errors import InvalidRequest, ModelNotFound, ModelNotReady

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from server.serving import ServedModel

MAX_VERSION_DIGITS = 19  # of a version that could be one; int() refuses very long ones


class State(StrEnum):
    """As the Open Inference protocol's index says it."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Report(NamedTuple):
    """What has become of a version, and why if it does not serve."""

    state: State
    reason: str = ""


@dataclass(slots=True)
class _Named:
    """All versions of one model. `leaving`: the latest to leave first. `homes`: where sequences of
    the version that is not said may live.
    """

    ready: dict[int, ServedModel] = field(default_factory=dict)
    leaving: tuple[ServedModel, ...] = ()
    homes: tuple[ServedModel, ...] = ()
    reports: dict[int, Report] = field(default_factory=dict)


class Catalogue:
    def __init__(self) -> None:
        self._named: dict[str, _Named] = {}

    # ---- what is there ---------------------------------------------------------------------------

    def model(self, name: str, version: str = "") -> ServedModel:
        """The given version of a model, or its latest, for a new session. Raises ModelNotFound,
        ModelNotReady, InvalidRequest.
        """
        named = self._get(name)
        if version:
            number = _number(version)
            if (found := named.ready.get(number)) is not None:
                return found
            if number in named.reports:
                raise ModelNotReady(f"{_unknown(name)} version {version} is not at ready state")
            raise ModelNotFound(f"{_unknown(name)} version {version} is not found")
        if not named.ready:
            raise ModelNotFound(f"{_unknown(name)} has no available versions")
        return named.homes[0]

    def homes(self, name: str, version: str = "") -> Sequence[ServedModel]:
        """Where a sequence may live whose requests say that: where a new one would go first. Raises
        ModelNotFound, InvalidRequest.
        """
        named = self._get(name)
        if not version:
            return named.homes
        number = _number(version)
        here = [named.ready[number]] if number in named.ready else []
        return [*here, *(model for model in named.leaving if model.spec.version == number)]

    def versions(self, name: str) -> list[int]:
        """The versions that take new sessions, ascending. Raises ModelNotFound."""
        return sorted(self._get(name).ready)

    def all_versions(self, name: str) -> list[int]:
        """Those that are leaving, too. Raises ModelNotFound."""
        named = self._get(name)
        return sorted({*named.ready, *(model.spec.version for model in named.leaving)})

    def __iter__(self) -> Iterator[ServedModel]:
        """Those that take new sessions. May be asked from another thread meanwhile."""
        for named in list(self._named.values()):
            yield from list(named.ready.values())

    def everything(self) -> Iterator[ServedModel]:
        """Those that are leaving, too."""
        yield from self
        for named in list(self._named.values()):
            yield from named.leaving

    def reports(self) -> Iterator[tuple[str, int, Report]]:
        """Name, version (0: not known) and report of every version that was ever heard of."""
        for name, named in sorted(self._named.items()):
            for version, report in sorted(named.reports.items()):
                yield name, version, report

    def _get(self, name: str) -> _Named:
        named = self._named.get(name)
        if named is None:
            raise ModelNotFound(f"{_unknown(name)} is not found")
        return named

    # ---- what changes ----------------------------------------------------------------------------

    def add(self, model: ServedModel) -> None:
        """Serve this one as well."""
        ready = self._named.setdefault(model.spec.name, _Named()).ready
        self.replace(model.spec.name, [*ready.values(), model])

    def replace(self, name: str, models: Iterable[ServedModel]) -> list[ServedModel]:
        """Serve these versions of `name` from now on and no others; those that leave."""
        named = self._named.setdefault(name, _Named())
        before, named.ready = named.ready, {model.spec.version: model for model in models}
        gone = [model for version, model in before.items() if named.ready.get(version) is not model]
        named.reports = {
            model.spec.version: Report(State.UNLOADING, "unloading") for model in gone
        } | dict.fromkeys(named.ready, Report(State.READY))
        self._set_leaving(named, (*reversed(gone), *named.leaving))
        return gone

    def has_left(self, model: ServedModel) -> None:
        """The last session of one that was leaving has gone."""
        named = self._named[model.spec.name]
        version = model.spec.version
        self._set_leaving(named, tuple(other for other in named.leaving if other is not model))
        still_there = {other.spec.version for other in named.leaving} | named.ready.keys()
        if version not in still_there and version in named.reports:
            named.reports[version] = Report(State.UNAVAILABLE, "unloaded")

    def report(self, name: str, versions: Iterable[int], state: State, reason: str = "") -> None:
        """What has become of versions that are not ready."""
        named = self._named.setdefault(name, _Named())
        for version in versions:
            if version not in named.ready:
                named.reports[version] = Report(state, reason)

    def forget(self, name: str) -> None:
        """Nothing of that name was ever there, unless something is."""
        named = self._named.get(name)
        if named is not None and not (named.ready or named.leaving):
            del self._named[name]

    def _set_leaving(self, named: _Named, leaving: tuple[ServedModel, ...]) -> None:
        named.leaving = leaving
        latest = [named.ready[max(named.ready)]] if named.ready else []
        named.homes = (*latest, *leaving)


def _number(version: str) -> int:
    """Raises InvalidRequest."""
    if not (version.isascii() and version.isdecimal()):
        raise InvalidRequest(f"model version must be a whole number, got '{version}'")
    return int(version) if len(version) <= MAX_VERSION_DIGITS else 0


def _unknown(name: str) -> str:
    return f"Request for unknown model: '{name}'"
