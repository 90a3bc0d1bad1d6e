"""A real server for the documents' snippets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import export
import models
from demo.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def vowels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with an untrained model `vowels`: (…, 12) → (…, 9)."""
    directory = tmp_path_factory.mktemp("vowels")
    torch.manual_seed(0)
    model = models.Sequential(
        [models.LSTM(8, return_sequences=True), models.Dense(9, activation="softmax")],
        input_name="frames",
        output_name="probabilities",
        name="vowels",
    )
    model.build((None, None, 12))
    export.install(model, directory / "repository")
    log = directory / "server.log"
    with ServerProcess(directory / "repository", log, "--provider", "cpu") as server:
        yield server.grpc
