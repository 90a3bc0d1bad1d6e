"""Who may import whom: once as written, imports inside functions included, and once as it happens
in a fresh interpreter.

The table is the architecture. A new line in it is a decision; docs/structure.md has the reasons.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FOLDERS = dict.fromkeys(("server", "inspection", "models", "export", "demo", "bench", "fuzz"), "")
FOLDERS["rnnserve"] = "client"

# Who (a package or module, the longest name that fits counts) → what beside itself and the standard
# library, type annotations included. Where a package stands here, all that is in it is meant.
MAY_IMPORT = {
    "rnnserve": {"grpc", "numpy"},  # protobuf through the stubs only
    # the server: from the inside out
    "server.errors": set(),
    "server.core": {"server.errors", "numpy"},
    "server.datatypes": {"server.stubs", "numpy", "onnx"},
    "server.repository": {
        *("server.errors", "server.datatypes", "server.stubs"),
        *("numpy", "onnx", "google.protobuf"),
    },
    "server.engine": {
        *("server.errors", "server.datatypes", "server.repository.spec"),
        *("numpy", "onnx", "onnxruntime", "structlog"),
    },
    "server.shared_memory": {"server.errors", "numpy"},
    "server.statistics": set(),
    "server.driver": {"server.errors", "server.core", "server.statistics", "numpy", "structlog"},
    "server.config": {"server.errors", "pydantic", "pydantic_settings"},
    "server.trace_settings": {"server.errors", "structlog"},
    "server.catalogue": {"server.errors", "server.serving"},
    "server.queueing": {"server.core.queueing", "server.repository.spec"},
    "server.serving": {
        *("server.errors", "server.core", "server.driver", "server.config", "server.catalogue"),
        *("server.repository.spec", "server.shared_memory", "server.statistics"),
        *("server.queueing", "server.trace_settings"),
    },
    "server.overrides": {
        *("server.errors", "server.repository.scan", "server.stubs", "google.protobuf"),
    },
    "server.loading": {
        *("server.config", "server.core.ledger", "server.engine", "server.repository"),
        *("server.serving", "structlog"),
    },
    "server.control": {
        *("server.errors", "server.config", "server.catalogue", "server.loading"),
        *("server.overrides", "server.repository.scan", "server.serving", "structlog"),
    },
    "server.rpc": {
        *("server.errors", "server.core", "server.serving", "server.repository.spec"),
        *("server.control", "server.overrides", "server.logs", "server.shared_memory"),
        *("server.statistics", "server.stubs", "rnnserve.v1"),
        *("grpc", "google.protobuf", "numpy", "structlog"),
    },
    # several processes on one port
    "server.processes": {
        *("server.errors", "server.config", "server.core.session", "server.core.sessions"),
        *("server.serving", "server.rpc", "server.http", "server.shared_memory"),
        *("server.control", "server.stubs", "rnnserve.v1"),
        *("grpc", "google.protobuf", "prometheus_client", "pydantic", "structlog"),
    },
    "server.processes.worker": {
        *("server.processes", "server.app", "server.errors", "server.logs", "structlog", "uvloop"),
    },
    "server.http2": {
        *("server.errors", "server.rpc", "server.stubs", "rnnserve.v1"),
        *("grpc", "grpc_health", "grpc_reflection", "google.protobuf"),
        *("h2", "hyperframe", "structlog"),
    },
    "server.native": {
        *("server.rpc.caller", "server.rpc.methods", "server.rpc.status"),
        *("grpc", "pygrpc_native", "structlog"),
    },
    "server.metrics": {"server.serving", "server.statistics", "prometheus_client"},
    "server.http": {"server.errors", "prometheus_client"},
    "server.logs": {"structlog"},
    "server.healthcheck": {"grpc", "grpc_health"},
    "server.transports": {
        *("server.config", "server.http2", "server.native", "server.rpc"),
        *("server.stubs", "rnnserve.v1"),
        *("grpc", "grpc_health", "grpc_reflection", "structlog"),
    },
    "server.app": {"server", "grpc_health", "prometheus_client", "structlog"},
    "server.commands": {
        *("server.app", "server.config", "server.logs", "server.processes.parent"),
        *("typer", "uvloop"),
    },
    "server.cli": {"server.errors", "typer"},
    "server.entry": {"server.cli"},
    "server": set(),
    # somebody's ONNX file; only the proof of an entry, and who shows one, know the server
    "inspection": {"numpy", "onnx", "onnxruntime", "google.protobuf"},
    "inspection.cli": {"inspection", "server.errors", "server.repository.load", "typer", "rich"},
    "inspection.report": {"inspection", "rich"},
    "inspection.entry_report": {"inspection", "server.repository.spec", "numpy", "rich"},
    "inspection.proof": {
        *("inspection", "numpy"),
        *("server.engine.engine", "server.errors", "server.repository.load"),
        "server.repository.spec",
    },
    # build time
    "models": {"torch", "numpy", "safetensors", "h5py", "matplotlib", "typer", "rich"},
    # run once, by hand
    "models.data.make_japanese_vowels": {"numpy", "aeon"},
    "models.data.make_digits": {"numpy", "sklearn"},
    "models.data.make_exercises": {"numpy", "seglearn"},
    "export": {
        *("models", "inspection.placement", "inspection.runtime", "inspection.staging"),
        *("torch", "numpy", "onnx", "onnxruntime", "typer", "rich"),
    },
    # who looks at all of it from outside
    "demo": {"models", "rnnserve", "torch", "numpy", "onnxruntime", "matplotlib", "rich"},
    "fuzz": {
        *("demo.server_process", "server.stubs", "rnnserve.v1"),
        *("grpc", "google.protobuf", "numpy", "onnx", "rich", "typer"),
    },
    "bench": {
        *("demo", "models", "export", "server", "rnnserve"),
        *("torch", "numpy", "grpc", "uvloop", "rich"),
    },
    "bench.forms": {"bench", "models", "export", "torch", "numpy", "onnxruntime", "rich"},
    "bench.simulation": {"bench", "server", "matplotlib", "numpy", "rich"},
    "bench.triton": {
        *("bench", "demo.server_process", "rnnserve", "server.stubs"),
        *("numpy", "grpc", "rich"),
    },
    "bench.triton.model": {"numpy", "onnxruntime", "triton_python_backend_utils"},  # the peer's
    "bench.contender": {"models", "torch", "keras", "tensorflow", "tf_keras", "numpy"},  # one each
}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """The package's modules by name, without generated ones."""
    base = ROOT / FOLDERS[package]
    for path in sorted((base / package).rglob("*.py")):
        if "_pb2" not in path.name:
            parts = path.relative_to(base).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[str]:
    """What a file imports, wherever in it: `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def rule(module: str) -> str:
    return max((name for name in MAY_IMPORT if lies_in(module, name)), key=len)


def is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


ALL = [pytest.param(name, path, id=name) for package in FOLDERS for name, path in modules(package)]


@pytest.mark.parametrize(("module", "path"), ALL)
def test_imports_as_written(module: str, path: Path) -> None:
    own = rule(module)
    allowed = MAY_IMPORT[own] | ({own} if own != "server" else set())
    strangers = [
        name
        for name in imports(path)
        if not is_standard(name) and not any(lies_in(name, package) for package in allowed)
    ]
    assert not strangers, f"{own} may import {sorted(allowed)} only"


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_every_line_of_the_table_is_needed(name: str) -> None:
    """A permission that nobody uses would hide the day on which somebody does."""
    package = name.partition(".")[0]
    used = {
        imported
        for module, path in modules(package)
        if rule(module) == name
        for imported in imports(path)
    }
    unused = {a for a in MAY_IMPORT[name] if not any(lies_in(imported, a) for imported in used)}
    assert not unused


def loaded_by(*names: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after importing these."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    run = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules, sep='\\n')", *names],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(run.stdout.split())


def top_level(names: set[str]) -> set[str]:
    """The packages that these modules are of, without the standard library and `__main__`."""
    return {name.partition(".")[0] for name in names if not is_standard(name)} - {"__main__"}


def every_module(package: str) -> list[str]:
    return [name for name, _ in modules(package) if not name.endswith("__main__")]


@pytest.fixture(scope="module")
def bare() -> set[str]:
    """What any interpreter of this environment has loaded: hooks of editable installs and such."""
    return top_level(loaded_by())


def test_the_server_loads_no_torch(bare: set[str]) -> None:
    loaded = top_level(loaded_by(*every_module("server"))) - bare
    assert "onnxruntime" in loaded
    assert not loaded & {
        "torch",
        "models",
        "export",
        "demo",
        "bench",
        "fuzz",
        "matplotlib",
        "safetensors",
    }


def test_the_client_loads_grpc_protobuf_numpy_and_nothing_else() -> None:
    loaded = loaded_by(*every_module("rnnserve"), "rnnserve.v1.session_pb2_grpc")
    given = loaded_by("grpc.aio", "google.protobuf.message", "numpy")  # with what they load
    assert top_level(loaded) - top_level(given) == {"rnnserve"}
    # they would clash with those of a tritonclient in the same process
    assert not {name for name in loaded if lies_in(name, "inference")}


def test_the_core_loads_numpy_and_nothing_else(bare: set[str]) -> None:
    core = [name for name in every_module("server") if lies_in(name, "server.core")]
    loaded = loaded_by(*core)
    assert top_level(loaded) - bare == {"server", "numpy"}
    own = {name for name in loaded if lies_in(name, "server")}
    assert own == {"server", "server.errors", *core}
    assert not loaded & {"asyncio", "socket", "grpc", "onnxruntime"} - loaded_by("numpy")


def test_export_loads_nothing_of_the_server(bare: set[str]) -> None:
    loaded = top_level(loaded_by(*every_module("export"))) - bare
    assert {"torch", "onnx", "models"} <= loaded
    assert not loaded & {"server", "rnnserve", "grpc"}


def test_the_command_line_answers_without_loading_what_it_may_call(bare: set[str]) -> None:
    loaded = top_level(loaded_by("server.cli")) - bare
    assert not loaded & {"torch", "onnx", "onnxruntime", "grpc", "numpy", "models", "export"}
