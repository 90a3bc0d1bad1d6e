from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from server.errors import StartupError
from server.repository.problem import Problem
from server.repository.scan import choose, missing, odd_names, scan, versions
from server.stubs.inference.model_config_pb2 import ModelVersionPolicy

if TYPE_CHECKING:
    from pathlib import Path


def test_models_are_directories_with_a_configuration_or_a_version(tmp_path: Path) -> None:
    for path in ("b/1", "a", ".git/1", "empty", "notes/drafts", "c/x", "d/0", "e/007"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a" / "config.pbtxt").touch()
    (tmp_path / "README").touch()
    (tmp_path / "empty" / "1").touch()  # a file is no version
    assert [path.name for path in scan(tmp_path)] == ["a", "b"]


def test_a_repository_without_models_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no model in it; expected <model>"):
        scan(tmp_path)


def test_a_repository_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(StartupError, match=f"{path.name}: not a directory"):
            scan(path)


def test_versions_are_numbers_in_order(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "0", "01", "-1", "1a", "x"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [1, 9, 10]


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (ModelVersionPolicy(), [7]),
        (ModelVersionPolicy(latest=ModelVersionPolicy.Latest()), [7]),
        (ModelVersionPolicy(latest=ModelVersionPolicy.Latest(num_versions=2)), [3, 7]),
        (ModelVersionPolicy(latest=ModelVersionPolicy.Latest(num_versions=9)), [1, 3, 7]),
        (ModelVersionPolicy(all=ModelVersionPolicy.All()), [1, 3, 7]),
        (ModelVersionPolicy(specific=ModelVersionPolicy.Specific(versions=[7, 1])), [1, 7]),
    ],
)
def test_the_policy_chooses_versions(policy: ModelVersionPolicy, chosen: list[int]) -> None:
    assert choose([1, 3, 7], policy) == chosen


def test_versions_that_are_wanted_but_not_there_are_left_out() -> None:
    policy = ModelVersionPolicy(specific=ModelVersionPolicy.Specific(versions=[4, 2, 1, 2]))
    assert choose([1, 3], policy) == [1]
    assert missing([1, 3], policy) == [2, 4]
    assert missing([1, 2, 3, 4], policy) == []


@pytest.mark.parametrize("wanted", [[], [2], [-1]])
def test_a_policy_that_leaves_nothing_is_a_problem(wanted: list[int]) -> None:
    policy = ModelVersionPolicy(specific=ModelVersionPolicy.Specific(versions=wanted))
    with pytest.raises(Problem) as caught:
        choose([1, 3], policy)
    assert str(caught.value) == f"version_policy.specific: versions {wanted}; present: [1, 3]"
    with pytest.raises(Problem, match="no version directory"):
        choose([], ModelVersionPolicy())


def test_directories_that_are_numbers_but_no_versions(tmp_path: Path) -> None:
    for name in ("0", "01", "1", "9" * 19, "²", "initial_state", "1a"):
        (tmp_path / name).mkdir()
    (tmp_path / "02").touch()
    assert odd_names(tmp_path) == ["0", "01", "9" * 19]
    assert versions(tmp_path) == [1]
