from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from server.errors import StartupError
from server.repository.problem import Problem
from server.repository.scan import choose, scan, versions
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


def test_a_version_that_is_wanted_but_not_there_is_a_problem() -> None:
    policy = ModelVersionPolicy(specific=ModelVersionPolicy.Specific(versions=[2, 1]))
    with pytest.raises(Problem, match=r"specific: versions \[2\]; present: \[1, 3\]"):
        choose([1, 3], policy)
    with pytest.raises(Problem, match="no version directory"):
        choose([], ModelVersionPolicy())
