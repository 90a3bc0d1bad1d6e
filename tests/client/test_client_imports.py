"""The client package stays small, and lives beside tritonclient."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

# grpc tries to import its siblings grpc_health, …, and brings Cython's runtime.
ALLOWED = ("rnnserve", "grpc", "google", "numpy", "typing_extensions", "cython_", "_cython_")
LOADED = """
import json, sys
before = set(sys.modules)
import rnnserve
print(json.dumps(sorted(set(sys.modules) - before)))
"""
TOGETHER = """
import numpy as np
import {first}, {second}
assert rnnserve.aio.connect and grpcclient.InferenceServerClient
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_importing_loads_only_grpc_protobuf_numpy_and_the_standard_library():
    modules = {name.partition(".")[0] for name in json.loads(run(LOADED))}
    assert "rnnserve" in modules
    others = modules - sys.stdlib_module_names
    assert [name for name in others if not name.startswith(ALLOWED)] == []


def test_no_stub_of_package_inference_is_loaded():
    names = json.loads(run(LOADED))
    assert not [name for name in names if "inference" in name or name.startswith("server")]


@pytest.mark.skipif(find_spec("tritonclient") is None, reason="tritonclient is not installed")
@pytest.mark.parametrize("order", [1, -1])
def test_tritonclient_in_the_same_process(order):
    first, second = ["rnnserve", "tritonclient.grpc as grpcclient"][::order]
    run(TOGETHER.format(first=first, second=second))


def test_all_names_what_there_is():
    import rnnserve

    for module in (rnnserve, rnnserve.aio, rnnserve.errors, rnnserve.client, rnnserve.specs):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert not set(rnnserve.errors.__all__) - set(rnnserve.__all__)
