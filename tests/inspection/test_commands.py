"""`rnnserve inspect` and `rnnserve add`, as their users call them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, external_data_helper, helper
from typer.testing import CliRunner

from inspection import cli, proof
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

FLOAT = TensorProto.FLOAT


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(cli.inspect)
    app.command()(cli.add)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_inspect_tells_what_was_found(
    run: Callable[..., Result], save: Callable[..., Path], leaky: Callable[..., onnx.ModelProto]
) -> None:
    path = save(leaky(), "leaky.onnx")
    ran = run("inspect", path)
    assert ran.exit_code == 0, ran.output
    for part in (
        "ONNX opset 18", "h → h_next", "sure", "batch axis: yes", "16 bytes",
        "CUDA: all 3 nodes", f"\nNext: rnnserve add {path} --repository DIR\n",
    ):  # fmt: skip
        assert part in ran.output


def test_inspect_for_programs(
    run: Callable[..., Result], save: Callable[..., Path], leaky: Callable[..., onnx.ModelProto]
) -> None:
    found = json.loads(run("inspect", save(leaky(), "leaky.onnx"), "--json").output)
    (state,) = found["states"]
    assert (state["input"], state["output"], state["shape"]) == ("h", "h_next", [4])
    assert found["session_bytes"] == 16
    assert found["batch"]["found"] is True
    assert found["cuda"]["fallbacks"] == []


def test_provider_cuda_lists_every_node_that_leaves_the_gpu(
    run: Callable[..., Result], save: Callable[..., Path], build: Callable[..., onnx.ModelProto]
) -> None:
    names = ["x", *(f"v{i}" for i in range(24)), "y"]
    nodes = [helper.make_node("Acosh", [a], [b], f"node_{b}") for a, b in itertools.pairwise(names)]
    path = save(build(nodes, [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])]))
    short, long = run("inspect", path).output, run("inspect", path, "--provider", "cuda").output
    assert "25 of 25 nodes would run on the CPU" in short
    assert "and 5 more: --provider cuda shows all" in short
    assert "node_v0" in short
    assert "node_y" not in short
    assert "node_y" in long


def test_an_entry_of_a_repository_shows_its_configuration(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:
    assert run("add", save(leaky(), "m1.onnx"), "--repository", repository).exit_code == 0
    shown = run("inspect", repository / "m1")
    assert "state, next value h_next" in shown.output
    assert "at most 64 rows share a run" in shown.output
    assert "nodes have kernels there" in shown.output
    (version,) = json.loads(run("inspect", repository / "m1", "--json").output)
    assert (version["name"], version["session_bytes"]) == ("m1", 16)
    broken = repository / "m1" / "config.pbtxt"
    broken.write_text(broken.read_text().replace('output_name: "h_next"', 'output_name: "k"'))
    failed = run("inspect", repository / "m1")
    assert failed.exit_code == cli.REFUSED
    assert failed.stderr.startswith(f"Error: {broken}: state 'h'")


def test_add_writes_a_proven_entry(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:
    path = save(leaky(), "leaky.onnx")
    options = ("--max-batch-size", "8", "--idle-seconds", "30")
    ran = run("add", path, "--repository", repository, "--name", "mine", *options)
    assert ran.exit_code == 0, ran.output
    assert "proven: two interleaved sessions" in ran.output
    assert f"Next: rnnserve serve --repository {repository}" in ran.output
    assert files(repository) == ["mine/1/model.onnx", "mine/config.pbtxt"]
    assert [p.name for p in repository.iterdir()] == ["mine"]
    (spec,) = load(repository / "mine")
    assert (spec.max_batch_size, spec.idle_s, spec.states[0].output) == (8, 30, "h_next")


def test_an_entry_is_replaced_only_when_told(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:
    first, second = save(leaky(), "m2.onnx"), save(leaky(dims=("n", 6)), "other.onnx")
    assert run("add", first, "--repository", repository).exit_code == 0
    ran = run("add", second, "--repository", repository, "--name", "m2")
    assert ran.exit_code == cli.REFUSED
    assert "say --replace" in ran.stderr
    assert load(repository / "m2")[0].states[0].shape == (4,)
    assert (
        run("add", second, "--repository", repository, "--name", "m2", "--replace").exit_code == 0
    )
    assert load(repository / "m2")[0].states[0].shape == (6,)
    assert [p.name for p in repository.iterdir()] == ["m2"]


def test_external_data_comes_along(
    run: Callable[..., Result],
    tmp_path: Path,
    build: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["m"]),
        helper.make_node("Add", ["m", "h"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    d = ["n", 16]
    inputs, outputs = [("x", FLOAT, d), ("h", FLOAT, d)], [("y", FLOAT, d), ("h_next", FLOAT, d)]
    model = build(nodes, inputs, outputs, {"W": np.eye(16, dtype="f")})
    external_data_helper.convert_model_to_external_data(
        model, location="weights.bin", size_threshold=0
    )
    path = tmp_path / "heavy.onnx"
    onnx.save(model, path)
    assert run("add", path, "--repository", repository).exit_code == 0
    assert files(repository / "heavy") == ["1/model.onnx", "1/weights.bin", "config.pbtxt"]
    (tmp_path / "weights.bin").unlink()
    ran = run("add", path, "--repository", repository, "--name", "again")
    assert ran.exit_code == cli.REFUSED
    assert "its weights are to be in weights.bin, which is not beside it" in ran.stderr


def test_a_model_without_states_is_added_with_a_note(
    run: Callable[..., Result], save: Callable[..., Path], build: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:  # fmt: skip
    nodes = [helper.make_node("Tanh", ["x"], ["y"])]
    path = save(build(nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])]), "plain.onnx")
    ran = run("add", path, "--repository", repository)
    assert ran.exit_code == 0, ran.output
    assert "no states found" in ran.output
    assert "# No states were found" in (repository / "plain" / "config.pbtxt").read_text()
    assert load(repository / "plain")[0].states == ()


def test_what_may_be_a_mistake_in_the_file_is_noted(
    run: Callable[..., Result], save: Callable[..., Path], build: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:  # fmt: skip
    """An LSTM that takes both its states and gives back one, and one that keeps both inside."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(1, 8, n)).astype("f") for name, n in (("W", 3), ("R", 2))}
    x, h = ("x", FLOAT, ["t", "n", 3]), [1, "n", 2]
    op = ["x", "W", "R", "", "", "h0", "c0"]
    half = helper.make_node("LSTM", op, ["y", "hn"], hidden_size=2)
    inside = helper.make_node("LSTM", op[:3], ["y"], hidden_size=2)
    y = ("y", FLOAT, ["t", 1, "n", 2])
    states = [("h0", FLOAT, h), ("c0", FLOAT, h)]
    for name, model, note in (
        ("half", build([half], [x, *states], [y, ("hn", FLOAT, h)], weights), "'c0' looks like a"),
        (
            "inside",
            build([inside], [x], [y], weights),
            "it has LSTM nodes whose states are neither",
        ),
    ):
        path = save(model, f"{name}.onnx")
        added = run("add", path, "--repository", repository)
        assert added.exit_code == 0, added.output
        assert f"note: {note}" in added.output
        assert f"note: {note}" in run("inspect", path).output
        assert note in json.loads(run("inspect", path, "--json").output)["notes"][0]


def test_states_can_be_named_or_denied(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:
    path = save(leaky(), "m3.onnx")
    assert run("add", path, "--repository", repository, "--stateless").exit_code == 0
    assert load(repository / "m3")[0].states == ()
    add = ("add", path, "--repository", repository, "--replace", "--state")
    assert run(*add, "h=y").exit_code == 0
    assert load(repository / "m3")[0].states[0].output == "y"


def test_an_unproven_model_leaves_nothing_behind(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine is made to answer a little wrong, as a defect of ours would."""

    class Wrong(proof.Engine):
        def run(self, *arguments: Any) -> Any:
            return {name: array + 0.01 for name, array in super().run(*arguments).items()}

    monkeypatch.setattr(proof, "Engine", Wrong)
    ran = run("add", save(leaky(), "m4.onnx"), "--repository", repository)
    assert ran.exit_code == cli.NOT_PROVEN
    assert "'y' differs between the server and plain ONNX Runtime" in ran.stderr
    assert "nothing was written" in ran.stderr
    assert list(repository.iterdir()) == []


def test_sessions_that_shared_a_state_would_be_noticed(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OneForAll(proof.Engine):
        def run(self, inputs: Any, read: Any, write: Any) -> Any:
            return super().run(inputs, np.where(read > 2, read - 2, read), write)

    monkeypatch.setattr(proof, "Engine", OneForAll)
    ran = run("add", save(leaky(), "m5.onnx"), "--repository", repository)
    assert ran.exit_code == cli.NOT_PROVEN


def test_a_repository_that_cannot_be_written(
    run: Callable[..., Result], save: Callable[..., Path], leaky: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:  # fmt: skip
    repository.write_text("a file")
    ran = run("add", save(leaky(), "m10.onnx"), "--repository", repository)
    assert ran.exit_code == cli.REFUSED
    assert ran.stderr.startswith(f"Error: cannot write to {repository}: ")
    assert repository.read_text() == "a file"


def test_a_model_that_draws_random_numbers_cannot_be_proven(
    run: Callable[..., Result], save: Callable[..., Path], build: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:  # fmt: skip
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["h", "noise"], ["h_next"]),
        helper.make_node("Add", ["h_next", "x"], ["y"]),
    ]
    d = ["n", 4]
    inputs, outputs = [("x", FLOAT, d), ("h", FLOAT, d)], [("y", FLOAT, d), ("h_next", FLOAT, d)]
    ran = run("add", save(build(nodes, inputs, outputs), "noise.onnx"), "--repository", repository)
    assert ran.exit_code == cli.NOT_PROVEN
    assert "perhaps it draws random numbers" in ran.stderr
    assert list(repository.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--state", "h"], "--state h: expected NAME=VALUE"),
        (["--state", "h=h_next", "--stateless"], "expected one of the two"),
        (["--constant", "k=1"], "--constant k: no such input"),
        (["--size", "n=0"], "--size n=0: expected a whole number"),
        (["--size", "m=2"], "--size m: no such axis"),
        (["--name", "../evil"], "expected letters"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
    arguments: list[str],
    text: str,
) -> None:
    ran = run("add", save(leaky(), "m6.onnx"), "--repository", repository, *arguments)
    assert ran.exit_code == cli.REFUSED
    assert text in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not repository.exists()


def test_a_missing_constant_says_what_to_type(
    run: Callable[..., Result], save: Callable[..., Path], build: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["s"]),
        helper.make_node("Add", ["h", "s"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    d = ["n", 4]
    inputs = [("x", FLOAT, d), ("h", FLOAT, d), ("gain", FLOAT, [])]
    path = save(build(nodes, inputs, [("y", FLOAT, d), ("h_next", FLOAT, d)]), "m7.onnx")
    add = ("add", path, "--repository", repository)
    ran = run(*add)
    assert ran.exit_code == cli.REFUSED
    assert "say --constant gain=VALUE, or --max-batch-size 0" in ran.stderr
    assert "--constant gain=VALUE" in run("inspect", path).output
    assert run(*add, "--constant", "gain=0.5").exit_code == 0
    assert run(*add, "--name", "alone", "--max-batch-size", "0").exit_code == 0
    assert [tensor.name for tensor in load(repository / "alone")[0].inputs] == ["x", "gain"]


def test_a_constant_from_a_file(
    run: Callable[..., Result], tmp_path: Path, save: Callable[..., Path],
    build: Callable[..., onnx.ModelProto], repository: Path,
) -> None:  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "in/gain"], ["s"]),
        helper.make_node("Add", ["h", "s"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    d = ["n", 4]
    inputs = [("x", FLOAT, d), ("h", FLOAT, d), ("in/gain", FLOAT, [4])]
    path = save(build(nodes, inputs, [("y", FLOAT, d), ("h_next", FLOAT, d)]), "m9.onnx")
    add = ("add", path, "--repository", repository, "--constant", f"in/gain={tmp_path}/gain.npy")
    missing = run(*add)
    assert missing.exit_code == cli.REFUSED
    assert missing.stderr.endswith("gain.npy: No such file or directory\n")
    np.save(tmp_path / "gain.npy", np.array([1.0, 0.0, -1.0, 2.0]))
    assert run(*add).exit_code == 0, run(*add).output
    assert files(repository / "m9") == ["1/model.onnx", "config.pbtxt", "constants/in_gain.npy"]
    (tmp_path / "gain.npy").write_bytes(b"no array")
    assert "not a value for float[4]" in run(*add, "--replace").stderr


def test_a_states_size_that_nobody_can_guess_is_asked_for(
    run: Callable[..., Result],
    save: Callable[..., Path],
    leaky: Callable[..., onnx.ModelProto],
    repository: Path,
) -> None:
    path = save(leaky(dims=("batch", "width")), "m8.onnx")
    ran = run("add", path, "--repository", repository)
    assert ran.exit_code == cli.REFUSED
    assert "say --size width=N" in ran.stderr
    assert f"rnnserve add {path} --repository DIR --size width=N" in run("inspect", path).output
    assert run("add", path, "--repository", repository, "--size", "width=6").exit_code == 0
    assert load(repository / "m8")[0].states[0].shape == (6,)


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "No such file"), (b"not a model", "not an ONNX model"), (b"", "not an ONNX model")],
)
def test_files_that_are_no_models(
    run: Callable[..., Result], tmp_path: Path, content: bytes | None, text: str
) -> None:
    path = tmp_path / "file.onnx"
    if content is not None:
        path.write_bytes(content)
    ran = run("inspect", path)
    assert ran.exit_code == cli.REFUSED
    assert ran.stderr.startswith(f"Error: {path}: ")
    assert text in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_an_op_that_onnx_runtime_lacks(
    run: Callable[..., Result], save: Callable[..., Path], leaky: Callable[..., onnx.ModelProto]
) -> None:
    model = leaky()
    model.graph.node[0].op_type, model.graph.node[0].domain = "Magic", "acme"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    ran = run("inspect", save(model))
    assert ran.exit_code == cli.REFUSED
    assert "ONNX Runtime cannot load it" in ran.stderr
    assert "Magic" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_an_entry_shows_what_no_request_carries(
    run: Callable[..., Result], repository: Path
) -> None:
    silero = Path(__file__).parent / "models" / "silero_vad_16k.onnx"
    assert run("add", silero, "--repository", repository, "--name", "vad").exit_code == 0
    shown = run("inspect", repository / "vad", "--provider", "cuda").output
    assert "constant 16000" in shown
    assert "state, next value stateN, batch axis 1" in shown
    (version,) = json.loads(run("inspect", repository / "vad", "--json").output)
    assert version["constants"] == {"sr": 16000}
    assert version["cuda_fallbacks"] == []
