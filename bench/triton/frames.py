"""A group of sessions that step together, by our client: a frame to each step of all of them.

A process of its own, so that client and server do not share an interpreter. Inputs differ from step
to step and outputs are read, as people do it. Prints one line of JSON.

    python -m bench.triton.frames 127.0.0.1:8001 lstm64 --sessions 256 --seconds 3
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np

import rnnserve
from bench.shapes import FEATURES
from bench.triton.figures import Failed, Figures

WARM_UP_S = 0.3
INPUTS = 16
LIMIT_S = 60.0


def measure(address: str, model: str, sessions: int, seconds: float) -> Figures:
    """One step of all `sessions` outstanding at a time."""
    frames = np.random.default_rng(0).random((INPUTS, sessions, FEATURES), np.float32)
    latencies: list[float] = []
    with rnnserve.connect(address) as client, client.group(model, sessions) as group:
        begin_s = time.perf_counter() + WARM_UP_S
        end_s = begin_s + seconds
        steps = 0
        while (sent_s := time.perf_counter()) < end_s:
            hidden = group.step(frames[steps % INPUTS])
            steps += 1
            if sent_s >= begin_s:
                latencies.append(time.perf_counter() - sent_s)
        if not np.any(hidden):
            raise RuntimeError("the server answered zeros")
    return Figures(sessions * len(latencies) / seconds, 1e6 * float(np.median(latencies)))


def measure_apart(address: str, model: str, sessions: int, seconds: float) -> Figures:
    """`measure`, by a fresh process. Raises Failed with the last line that it wrote."""
    command = [sys.executable, "-m", "bench.triton.frames", address, model]
    command += ["--sessions", str(sessions), "--seconds", str(seconds)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"the group was not done after {LIMIT_S:.0f} s") from None
    if ran.returncode:
        raise Failed(ran.stderr.strip().rpartition("\n")[2])
    return Figures(**json.loads(ran.stdout))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    print(json.dumps(asdict(measure(given.address, given.model, given.sessions, given.seconds))))
