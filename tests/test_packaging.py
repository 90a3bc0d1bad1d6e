"""What the wheels and the source archive hold; that extras name what their packages import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLIENT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
PACKAGES = dict.fromkeys(("server", "inspection", "models", "export"), ROOT)
PACKAGES["rnnserve"] = ROOT / "client"
# made the data that is shipped; nobody needs them
RUN_BY_HAND = {
    f"make_{name}.py" for name in ("japanese_vowels", "digits", "exercises", "pronunciations")
}
NOT_IMPORTED = {"uvloop", "tensorboard", "onnxscript"}  # the first in a try, the others by torch


def build(directory: Path, kind: str, output: Path) -> Path:
    """A wheel or sdist of the project in `directory`, without network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", output],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel."""
    return set(zipfile.ZipFile(build(ROOT, "wheel", tmp_path_factory.mktemp("w"))).namelist())


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    path = build(ROOT / "client", "wheel", tmp_path_factory.mktemp("c"))
    return set(zipfile.ZipFile(path).namelist())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with tarfile.open(build(ROOT, "sdist", tmp_path_factory.mktemp("s"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def sources(*paths: str, new: bool = True) -> set[str]:
    """The project's files as git sees them, those included that it does not know yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    others = ["--others", "--exclude-standard"] if new else []
    command = ["git", "ls-files", "--cached", *others, "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def code_of(names: set[str], dist_info: str) -> set[str]:
    return {name for name in names if not name.startswith(dist_info)}


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: set[str]) -> None:
    own = sources("server", "inspection", "models", "export", "client/rnnserve")
    assert code_of(wheel, "rnnserve-") == {name.removeprefix("client/") for name in own}


def test_the_wheel_holds_types_data_stubs_and_licence(wheel: set[str]) -> None:
    version = PROJECT["version"]
    assert {f"{package}/py.typed" for package in PACKAGES} <= wheel
    assert "models/data/japanese_vowels.npz" in wheel
    assert {"server/stubs/inference/grpc_service_pb2.py", "rnnserve/v1/session_pb2.py"} <= wheel
    licences = f"rnnserve-{version}.dist-info/licenses"
    assert {f"{licences}/LICENSE", f"{licences}/NOTICE"} <= wheel


def test_the_client_wheel_holds_the_client_alone(client_wheel: set[str]) -> None:
    own = sources("client/rnnserve")
    assert code_of(client_wheel, "rnnserve_client-") == {n.removeprefix("client/") for n in own}
    assert any(name.endswith("licenses/LICENSE") for name in client_wheel)


def test_the_source_archive_builds_and_tests_itself(sdist: set[str]) -> None:
    assert sources(new=False) - sdist == {".gitattributes", ".ci/run"}
    assert sdist - sources() == {"PKG-INFO"}


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    image = re.search(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    log = re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert image is not None
    assert CLIENT["version"] == image[1] == version
    assert log is None or log[1] == version  # none before the first release


def test_one_set_of_client_requirements_and_one_licence() -> None:
    assert CLIENT["dependencies"] == PROJECT["dependencies"]
    assert CLIENT["requires-python"] == PROJECT["requires-python"]
    assert (ROOT / "client" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def requirements(*lists: list[str]) -> set[str]:
    """The distributions that requirements name, in lower case with hyphens."""
    names = (re.match(r"[\w.-]+", line) for requires in lists for line in requires)
    return {normal(name[0]) for name in names if name is not None}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(package: str) -> set[str]:
    """The distributions that a package's modules import, wherever in them."""
    owners = packages_distributions()
    names = {
        name
        for path in (PACKAGES[package] / package).rglob("*.py")
        if path.name not in RUN_BY_HAND
        for name in top_levels(path)
        if name not in sys.stdlib_module_names and name not in PACKAGES
    }
    return {normal(owners[name][0]) for name in names - {"google"}} | (
        {"protobuf"} if "google" in names else set()
    )


def top_levels(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


EXTRAS: dict[str, Any] = PROJECT["optional-dependencies"]


@pytest.mark.parametrize(
    ("extras", "packages"),
    [
        ([], ["rnnserve"]),
        (["server", "fast"], ["server", "inspection"]),
        (["train"], ["models", "export"]),
    ],
)
def test_extras_name_what_their_packages_import(extras: list[str], packages: list[str]) -> None:
    """Neither less, or a command fails where they are installed alone, nor more."""
    base = requirements(PROJECT["dependencies"])
    own = requirements(*(EXTRAS[extra] for extra in extras)) if extras else base
    used = set().union(*(imported(package) for package in packages))
    assert used <= own | base
    assert own <= used | NOT_IMPORTED


def test_all_is_all() -> None:
    assert EXTRAS["all"] == ["rnnserve[server,train,dev]"]
    assert EXTRAS.keys() == {"server", "train", "cuda", "fast", "dev", "all"}


def test_every_requirement_has_a_tested_version() -> None:
    """constraints.txt pins all that `make install` asks for by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normal(line.partition("==")[0]) for line in lines if "==" in line}
    asked = requirements(PROJECT["dependencies"], *EXTRAS.values()) - {"rnnserve"}
    assert asked <= pinned
