"""What a model's configuration wants of ONNX Runtime arrives there, and changes no result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.engine.devices import CPU, Device, cuda_device_names
from server.engine.engine import Engine
from server.engine.session import run_options
from server.errors import StartupError, StepFailed
from server.repository.load import load
from server.repository.spec import RunOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec, TensorSpec
    from tests.server.conftest import LstmModel, MakeModel

MODELS = Path(__file__).parents[2] / "inspection" / "models"
ROWS = 24
PARALLEL = {"execution_mode": "1", "inter_op_thread_count": "4"}
SHRINK = "memory.enable_memory_arena_shrinkage"

SILERO = """max_batch_size: 8
sequence_batching { state [
  { input_name: "state" output_name: "stateN" data_type: TYPE_FP32 dims: [ 2, 128 ] }
] }
parameters { key: "rnnserve.state.state.batch_axis" value { string_value: "1" } }
parameters { key: "rnnserve.constant.sr" value { string_value: "16000" } }
model_warmup { inputs { key: "input" value { dims: [ 576 ] } } }
"""


def states(*entries: tuple[str, str, list[int]]) -> str:
    listed = ", ".join(
        f'{{ input_name: "{name}" output_name: "{after}" data_type: TYPE_FP32 dims: {dims} }}'
        for name, after, dims in entries
    )
    return f"sequence_batching {{ state [ {listed} ] }}\n"


KERAS = "max_batch_size: 8 " + states(
    *(
        (f"keras_tensor_{number}", f"Identity_{place}:0", [8])
        for place, number in enumerate((11, 12, 16, 17), start=1)
    )
)
GTCRN = "max_batch_size: 0 " + states(
    ("conv_cache", "conv_cache_out", [2, 1, 16, 16, 33]),
    ("tra_cache", "tra_cache_out", [2, 3, 1, 1, 16]),
    ("inter_cache", "inter_cache_out", [2, 1, 33, 16]),
)
REAL = {"silero_vad_16k": SILERO, "keras_lstm": KERAS, "gtcrn": GTCRN}


def parameters(texts: dict[str, str]) -> str:
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{text}" }} }}\n'
        for key, text in texts.items()
    )


def engine_of(path: Path, *, intra_op_threads: int = 1) -> Engine:
    return Engine(load(path)[0], provider="cpu", rows=ROWS, intra_op_threads=intra_op_threads)


def options_in(engine: Engine) -> ort.SessionOptions:
    return engine._session.get_session_options()


@pytest.fixture
def start(make_model: MakeModel, lstm_model: LstmModel, lstm_config: str) -> Any:
    def start(more: str, **how: int) -> Engine:
        return engine_of(make_model("lstm", lstm_config + more, lstm_model()), **how)

    return start


def test_what_a_model_gets_that_says_nothing(start: Any) -> None:
    engine = start("", intra_op_threads=3)
    options = options_in(engine)
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (True, False)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert engine._free[0]._options is None


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        (
            "optimization { graph { level: 1 } }",
            "graph_optimization_level",
            ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        ),
        (
            "optimization { graph { level: -1 } }",
            "graph_optimization_level",
            ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        ),
        (
            "optimization { graph { level: 2 } }",
            "graph_optimization_level",
            ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        ),
        (parameters({"intra_op_thread_count": "2"}), "intra_op_num_threads", 2),
        (parameters({"intra_op_thread_count": "0"}), "intra_op_num_threads", 0),
        (parameters(PARALLEL), "inter_op_num_threads", 4),
        (parameters({"execution_mode": "1"}), "inter_op_num_threads", 0),
        (parameters({"execution_mode": "1"}), "execution_mode", ort.ExecutionMode.ORT_PARALLEL),
        (parameters({"enable_mem_arena": "0"}), "enable_cpu_mem_arena", False),
        (parameters({"enable_mem_pattern": "1"}), "enable_mem_pattern", True),
    ],
)
def test_session_options(start: Any, more: str, field: str, value: object) -> None:
    """The model's own word goes before the server's, which is 3 threads here."""
    assert getattr(options_in(start(more, intra_op_threads=3)), field) == value


def test_session_entries_go_before_ours(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    given = {
        "session.intra_op.allow_spinning": "1",
        "session.use_device_allocator_for_initializers": "1",
    }
    options = options_in(start(parameters(given)))
    for key, text in given.items():
        assert options.get_session_config_entry(key) == text
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert capfd.readouterr().err == ""  # ONNX Runtime complains of an entry that is set twice


def test_memory_goes_back_after_every_run(start: Any) -> None:
    """Of the device that the model runs on: ONNX Runtime fails a run that names another one."""
    engine = start(parameters({SHRINK: "gpu:0;cpu:0"}))
    assert engine._free[0]._options.get_run_config_entry(SHRINK) == "cpu:0"
    frames = np.ones((1, 2, 3), np.float32)
    engine.run({"frames": frames}, np.array([0]), np.array([1]))
    both, gpu = RunOptions(shrinks=("cpu", "gpu")), RunOptions(shrinks=("gpu",))
    options = run_options(both, Device("cuda", 1))
    assert options is not None
    assert options.get_run_config_entry(SHRINK) == "cpu:0;gpu:1"
    assert run_options(gpu, CPU) is None


Walk = list[dict[str, "NDArray[Any]"]]


def walk(engine: Engine, steps: int = 40, beside: int = 0) -> Walk:
    """Outputs and states of sessions that run in turn, together and in ever other rows: the same
    for every engine of a model. With `beside` the rows are none of those of a walk with less.
    """
    spec, rng = engine.spec, np.random.default_rng(0)
    batched = spec.max_batch_size > 0
    rows, seen = np.zeros(6, np.int64), []
    for _ in range(steps):
        size = int(rng.integers(1, 7)) if batched else 1
        group = rng.choice(6, size, replace=False)
        free = np.setdiff1d(np.arange(1, ROWS), rows % ROWS)
        write = rng.choice(free, size, replace=False) + beside * ROWS
        inputs = {tensor.name: random_input(rng, spec, tensor, size) for tensor in spec.fed}
        outputs = engine.run(inputs, rows[group], write)
        rows[group] = write
        seen.append({**outputs, **engine.read(rows)})
    return seen


def random_input(
    rng: np.random.Generator, spec: ModelSpec, tensor: TensorSpec, size: int
) -> NDArray[Any]:
    known = spec.warmup.get(tensor.name, tensor.shape)
    shape = [int(rng.integers(1, 6)) if axis == -1 else axis for axis in known]
    if spec.max_batch_size:
        shape[0] = size
    return rng.normal(size=shape).astype(tensor.dtype)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What real models give without options, by name."""
    return {
        name: walk(engine_of(entry(tmp_path_factory.mktemp("usual"), name, ""))) for name in REAL
    }


def entry(folder: Path, name: str, more: str) -> Path:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(REAL[name] + more)
    (folder / name / "1" / "model.onnx").symlink_to(MODELS / f"{name}.onnx")
    return folder / name


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "texts",
    [
        PARALLEL,
        {**PARALLEL, "intra_op_thread_count": "2", "enable_mem_pattern": "1"},
        {"execution_mode": "1", "inter_op_thread_count": "1"},
        {"enable_mem_pattern": "1"},
        {"enable_mem_arena": "0"},
        {SHRINK: "cpu:0"},
        {"intra_op_thread_count": "2", "session.intra_op.allow_spinning": "1"},
        {"session.use_device_allocator_for_initializers": "1"},
    ],
    ids=str,
)
def test_real_models_give_the_same_bits(
    tmp_path: Path, usual: dict[str, Walk], name: str, texts: dict[str, str]
) -> None:
    ours = walk(engine_of(entry(tmp_path, name, parameters(texts))))
    for mine, theirs in zip(ours, usual[name], strict=True):
        for tensor, values in theirs.items():
            np.testing.assert_array_equal(mine[tensor], values, tensor)


@pytest.mark.parametrize("name", REAL)
def test_instances_run_at_the_same_time_whatever_the_options(
    tmp_path: Path, usual: dict[str, Walk], name: str
) -> None:
    texts = {**PARALLEL, "enable_mem_pattern": "1", SHRINK: "cpu:0"}
    [spec] = load(entry(tmp_path, name, parameters(texts)))
    engine = Engine(spec, provider="cpu", rows=3 * ROWS, instances=3)
    with ThreadPoolExecutor(3) as threads:
        walks = list(threads.map(lambda beside: walk(engine, beside=beside), range(3)))
    for ours in walks:
        for mine, theirs in zip(ours, usual[name], strict=True):
            for tensor, values in theirs.items():
                np.testing.assert_array_equal(mine[tensor], values, tensor)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "more",
    [
        "optimization { graph { level: 1 } }",
        "optimization { graph { level: -1 } }",
        "optimization { graph { level: 2 } }",
        parameters({"session.disable_prepacking": "1"}),
    ],
)
def test_real_models_with_other_kernels(
    tmp_path: Path, usual: dict[str, Walk], name: str, more: str
) -> None:
    ours = walk(engine_of(entry(tmp_path, name, more)))
    for mine, theirs in zip(ours, usual[name], strict=True):
        for tensor, values in theirs.items():
            np.testing.assert_allclose(mine[tensor], values, atol=2e-5, err_msg=tensor)


def wide(count: int) -> onnx.ModelProto:
    """As many states of 64 numbers, in branches that have nothing to do with each other and are of
    unequal length: some are stored long before others are read. `place` outside of 0 to 2 fails the
    last one.
    """
    node, rng, size = helper.make_node, np.random.default_rng(1), 64
    stored: dict[str, NDArray[Any]] = {"table": np.zeros((3, size), np.float32)}
    stored["middle"] = np.array([1])
    nodes = [
        node("Gather", ["table", "place"], ["places"]),
        node("Squeeze", ["places", "middle"], ["offset"]),
    ]
    for number in range(count):
        last = f"s{number}"
        for step in range(1 + 5 * (number % 3)):
            stored[f"w{number}.{step}"] = rng.normal(size=(size, size)).astype(np.float32) / 8
            nodes.append(node("MatMul", [last, f"w{number}.{step}"], [f"m{number}.{step}"]))
            nodes.append(node("Tanh", [f"m{number}.{step}"], [f"t{number}.{step}"]))
            last = f"t{number}.{step}"
        other = "offset" if number == count - 1 else "x"
        nodes.append(node("Add", [last, other], [f"n{number}"]))
    nodes.append(node("Sum", [f"n{number}" for number in range(count)], ["y"]))
    value, row = helper.make_tensor_value_info, ["batch", size]
    before = [value(f"s{number}", TensorProto.FLOAT, row) for number in range(count)]
    after = [value(f"n{number}", TensorProto.FLOAT, row) for number in range(count)]
    inputs = [value("x", TensorProto.FLOAT, row), value("place", TensorProto.INT64, ["batch", 1])]
    graph = helper.make_graph(
        nodes,
        "wide",
        [*inputs, *before],
        [value("y", TensorProto.FLOAT, row), *after],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_branches_at_the_same_time_read_and_write_only_their_rows(make_model: MakeModel) -> None:
    """Which of them is stored first is chance: 300 steps, of which every fifth fails half-way."""
    config = "max_batch_size: 8 " + states(*((f"s{n}", f"n{n}", [64]) for n in range(6)))
    model = wide(6)
    plain = engine_of(make_model("plain/wide", config, model))
    parallel = engine_of(make_model("parallel/wide", config + parameters(PARALLEL), model))
    rng, everything = np.random.default_rng(2), np.arange(ROWS)
    rows = np.zeros(8, np.int64)
    for step in range(300):
        size = int(rng.integers(1, 9))
        free = np.setdiff1d(np.arange(1, ROWS), rows)
        write = rng.choice(free, size, replace=False)
        x = rng.normal(size=(size, 64)).astype(np.float32)
        place = rng.integers(0, 3, (size, 1))
        if step % 5 == 4:
            place[-1] = 3
            before = parallel.read(everything)
            with pytest.raises(StepFailed, match="out of data bounds"):
                parallel.run({"x": x, "place": place}, rows[:size], write)
            kept = np.setdiff1d(everything, write)
            for name, values in parallel.read(everything).items():
                np.testing.assert_array_equal(values[kept], before[name][kept])
            continue
        ours, theirs = (
            engine.run({"x": x, "place": place}, rows[:size], write) for engine in (parallel, plain)
        )
        np.testing.assert_array_equal(ours["y"], theirs["y"])
        rows[:size] = write
        mine, other = parallel.read(rows), plain.read(rows)
        for name, values in other.items():
            np.testing.assert_array_equal(mine[name], values)


@pytest.mark.parametrize("kind", ["KIND_GPU gpus: [ 1 ]", "KIND_GPU", "KIND_AUTO"])
@pytest.mark.skipif(bool(cuda_device_names()), reason="has a CUDA device")
def test_a_repository_for_gpus_is_served_without_one(
    start: Any, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    engine = start(f"instance_group {{ kind: {kind} }}")
    assert engine.device == "cpu"
    said = capsys.readouterr().out
    assert ("instance_group wants a GPU; the model runs on the CPU" in said) == ("GPU" in kind)


@pytest.mark.skipif(bool(cuda_device_names()), reason="has a CUDA device")
def test_who_demands_cuda_gets_no_cpu(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    gpu, cpu = (
        load(
            make_model(
                f"{kind}/lstm", f"{lstm_config}instance_group {{ kind: {kind} }}", lstm_model()
            )
        )[0]
        for kind in ("KIND_GPU", "KIND_CPU")
    )
    with pytest.raises(StartupError, match="provider 'cuda': no CUDA device found"):
        Engine(gpu, provider="cuda", rows=ROWS)
    assert Engine(cpu, provider="cuda", rows=ROWS).device == "cpu"
