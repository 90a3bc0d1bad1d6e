"""What the parent and a worker say to each other: a line of JSON each way.

The worker reads its letter from standard input, which stays open as long as the parent lives, and
answers on standard output when it serves, or why it cannot.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads annotations)

from pydantic import BaseModel, ConfigDict

from server.config import ServerConfig  # noqa: TC001


class Letter(BaseModel):
    """To the worker `number` of `count`. What they share lies in `directory`."""

    model_config = ConfigDict(frozen=True)

    number: int
    count: int
    directory: Path
    config: ServerConfig


class Reply(BaseModel):
    """`problem`: why the worker cannot serve; empty: it does."""

    model_config = ConfigDict(frozen=True)

    problem: str = ""
