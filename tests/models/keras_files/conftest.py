"""The files that real versions of Keras wrote, unpacked."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.models.keras_files.reference import FIXTURES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each version; nobody writes into it."""
    folder = tmp_path_factory.mktemp("keras")
    for archive in FIXTURES.glob("*.zip"):
        zipfile.ZipFile(archive).extractall(folder / archive.stem)
    return folder
