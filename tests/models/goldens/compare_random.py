"""Compares our layers with the original Keras 2.2.4 on fresh random configurations.

From the root of the repository, in our environment; KERAS_PYTHON is the Python of the environment
that `make_goldens.py` asks for:

    python -m tests.models.goldens.compare_random KERAS_PYTHON --count 300 --seed 1

Prints every configuration on which both disagree, with what is told apart, and the greatest
differences; exits with 1 if there is any. With `--dtype float64` both compute in double precision,
where nothing but a different meaning can be told apart: the limit is then 1e-12.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.goldens import packing

ROOT = Path(__file__).parents[3]
LIMITS = {"float32": (1e-6, 1e-5), "float64": (1e-12, 1e-12)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("keras_python", help="the Python of Keras' environment")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=LIMITS, default="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = ask_keras(options, Path(folder) / "cases.npz")
    return report(cases, *LIMITS[options.dtype])


def ask_keras(options: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """Has the other Python run `dump_random.py`."""
    command = [options.keras_python, "-W", "ignore", "-m", "tests.models.goldens.dump_random"]
    arguments = [path, options.count, options.seed, options.dtype]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([*command, *map(str, arguments)], check=True, cwd=ROOT, env=quiet)
    return packing.load(path)


def report(cases: list[dict[str, Any]], forward: float, gradient: float) -> int:
    """Prints what differs; 1 if anything does."""
    worst = {"forward": 0.0, "gradient": 0.0}
    bad = 0
    finite = [case for case in cases if is_finite(case)]
    for case in finite:
        found = errors(case)
        for name, error in found.items():
            kind = "gradient" if name.startswith("gradient") else "forward"
            worst[kind] = max(worst[kind], error)
        limits = {n: gradient if n.startswith("gradient") else forward for n in found}
        wrong = {name: error for name, error in found.items() if not error <= limits[name]}
        if wrong:
            bad += 1
            print(case["name"], wrong, describe(case), sep="\n  ")
    print(f"{len(finite)} configurations, {bad} disagree; greatest relative differences: {worst}")
    print(f"{len(cases) - len(finite)} more overflow in Keras")
    return int(bad > 0)


def is_finite(case: dict[str, Any]) -> bool:
    """Whether Keras' numbers are: an exponential as activation grows beyond all bounds."""
    numbers = [
        n for call in case["calls"] for n in (*call["returned"], call["gradients"]["inputs"])
    ]
    return all(np.isfinite(array).all() for array in numbers)


def errors(case: dict[str, Any]) -> dict[str, float]:
    """As `replay.errors`; where our layer raises, that is the difference."""
    from tests.models.goldens import replay  # torch, which Keras' environment has not

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return replay.errors(case)
        except Exception as error:
            return {f"{type(error).__name__}: {error}": float("inf")}


def describe(case: dict[str, Any]) -> str:
    """The layer and its calls without their numbers."""
    calls = [
        {
            key: value.tolist() if key == "mask" and value is not None else shapes(value)
            for key, value in call.items()
            if key not in ("directions", "gradients", "returned", "losses", "states")
        }
        for call in case["calls"]
    ]
    return json.dumps({"layer": case["layer"], "calls": calls})


def shapes(value: Any) -> Any:
    if isinstance(value, list):
        return [shapes(one) for one in value]
    return list(value.shape) if hasattr(value, "shape") else value


if __name__ == "__main__":
    sys.exit(main())
