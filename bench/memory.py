"""What an idle session costs beyond its state: a million of them in one process.

Every session is opened as the server opens it and stepped once, so that it owns a row; the engine
is left out, because its arena is the state itself. Prints bytes per session.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path

import numpy as np

from bench.processes import resident_bytes
from server.core.ledger import Limits
from server.core.requests import Step
from server.rpc.beginnings import TOKEN_BYTES
from server.serving import ServedModel, Serving

BATCH = 512


class NoEngine:
    """Stands where the engine is; nothing is run on it here."""


async def bytes_per_session(repository: Path, model: str, count: int) -> float:
    from server.repository.load import load

    serving = Serving(count)
    limits = Limits(max_batch_size=BATCH, max_rows=count, max_chunk=32)
    served = ServedModel(load(repository / model)[0], NoEngine(), limits, serving.closed)  # type: ignore[arg-type]
    inputs = {"frames": np.zeros((1, 1, 1), np.float32)}
    before = resident_bytes(os.getpid())
    for _ in range(count // BATCH):
        now_s = time.monotonic()
        for _ in range(BATCH):
            session = serving.open(served, token=secrets.token_urlsafe(TOKEN_BYTES))
            served.scheduler.submit(session, Step(inputs=inputs), now_s)
        while (job := served.scheduler.next_job()) is not None:
            served.scheduler.complete(job, {}, now_s)
        served.scheduler.take_answers()
    return (resident_bytes(os.getpid()) - before) / len(serving.sessions)


if __name__ == "__main__":
    print(asyncio.run(bytes_per_session(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
