"""docs/structure.md names every place that there is; test_readme.py checks the other direction."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "structure.md").read_text()


def holds_something(path: Path) -> bool:
    return path.is_dir() and path.name != "__pycache__" and path.name[0] != "."


FOLDERS = {
    *("proto", "client", "server", "inspection", "models", "export"),
    *("demo", "bench", "deploy", "tests"),
}


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_every_folder_is_described(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert f"`{folder}/`" in PAGE.split("## The tree")[1]


@pytest.mark.parametrize(
    "name",
    sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "server").iterdir()
        if holds_something(path) or (path.suffix == ".py" and path.name != "__init__.py")
    ),
)
def test_every_part_of_the_server_is_named(name: str) -> None:
    assert f"`{name}" in PAGE or f"`server/{name}" in PAGE
