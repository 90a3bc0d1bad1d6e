"""Which models are served: by name and version, ready, leaving or not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.catalogue import Catalogue, Report, State
from server.errors import InvalidRequest, ModelNotFound, ModelNotReady


def model(name: str, version: int) -> Any:
    """As much of a served model as the catalogue looks at."""
    return SimpleNamespace(spec=SimpleNamespace(name=name, version=version))


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


def reports(catalogue: Catalogue) -> dict[tuple[str, int], Report]:
    return {(name, version): report for name, version, report in catalogue.reports()}


def test_an_unknown_name_and_an_unknown_version(catalogue: Catalogue) -> None:
    catalogue.add(model("m", 2))
    for find in (catalogue.model, catalogue.homes):
        with pytest.raises(ModelNotFound, match="Request for unknown model: 'x' is not found"):
            find("x")
    with pytest.raises(ModelNotFound, match="'m' version 1 is not found"):
        catalogue.model("m", "1")
    assert catalogue.homes("m", "1") == []


@pytest.mark.parametrize("version", ["1.0", "-1", "latest", "½", "١", " 1"])  # noqa: RUF001
def test_a_version_is_a_whole_number(catalogue: Catalogue, version: str) -> None:
    catalogue.add(model("m", 1))
    for find in (catalogue.model, catalogue.homes):
        with pytest.raises(InvalidRequest, match="must be a whole number"):
            find("m", version)


def test_a_version_of_any_length_is_only_not_found(catalogue: Catalogue) -> None:
    catalogue.add(model("m", 1))
    with pytest.raises(ModelNotFound):
        catalogue.model("m", "9" * 10_000)


def test_new_ones_go_to_the_replacement_and_old_ones_stay(catalogue: Catalogue) -> None:
    old, other = model("m", 1), model("m", 2)
    catalogue.replace("m", [old, other])
    new = model("m", 1)
    assert catalogue.replace("m", [new, other]) == [old]
    assert catalogue.model("m", "1") is new
    assert list(catalogue.homes("m", "1")) == [new, old]
    assert list(catalogue.homes("m")) == [other, old]
    assert list(catalogue) == [new, other]
    assert list(catalogue.everything()) == [new, other, old]
    catalogue.has_left(old)
    assert list(catalogue.homes("m", "1")) == [new]
    assert set(reports(catalogue).values()) == {Report(State.READY)}


def test_a_version_that_is_not_chosen_any_more_leaves(catalogue: Catalogue) -> None:
    first, second = model("m", 1), model("m", 2)
    catalogue.add(first)
    assert catalogue.replace("m", [second]) == [first]
    assert reports(catalogue) == {
        ("m", 1): Report(State.UNLOADING, "unloading"),
        ("m", 2): Report(State.READY),
    }
    with pytest.raises(ModelNotReady, match="'m' version 1 is not at ready state"):
        catalogue.model("m", "1")
    assert list(catalogue.homes("m", "1")) == [first]  # its sequences go on
    assert list(catalogue.homes("m")) == [second, first]
    assert (catalogue.versions("m"), catalogue.all_versions("m")) == ([2], [1, 2])
    catalogue.has_left(first)
    assert reports(catalogue)["m", 1] == Report(State.UNAVAILABLE, "unloaded")


def test_an_unloaded_model_has_no_available_versions(catalogue: Catalogue) -> None:
    only = model("m", 1)
    catalogue.add(only)
    catalogue.replace("m", [])
    with pytest.raises(ModelNotFound, match="'m' has no available versions"):
        catalogue.model("m")
    assert list(catalogue.homes("m")) == [only]
    catalogue.has_left(only)
    assert list(catalogue.homes("m")) == []
    with pytest.raises(ModelNotReady):
        catalogue.model("m", "1")


def test_what_failed_to_load_does_not_touch_what_serves(catalogue: Catalogue) -> None:
    ready = model("m", 1)
    catalogue.add(ready)
    catalogue.report("m", [1, 2], State.UNAVAILABLE, "broken")
    assert reports(catalogue) == {
        ("m", 1): Report(State.READY),
        ("m", 2): Report(State.UNAVAILABLE, "broken"),
    }
    assert catalogue.model("m") is ready


def test_a_name_can_be_forgotten_when_nothing_is_there(catalogue: Catalogue) -> None:
    catalogue.report("m", [0], State.UNAVAILABLE, "broken")
    catalogue.forget("m")
    assert reports(catalogue) == {}
    catalogue.add(model("m", 1))
    catalogue.forget("m")
    assert catalogue.versions("m") == [1]
