"""Models that others made and other exporters wrote, through `add`: found, proven, and right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from inspection.adding import add
from inspection.choices import Choices
from inspection.placement import placement_of
from server.engine.engine import Engine
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.findings import Findings
    from inspection.proof import Proof


@dataclass(frozen=True)
class Expected:
    """What a reader of the model's own documentation would write."""

    states: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    batch_axes: dict[str, int] | None = None
    constants: tuple[str, ...] = ()
    time: dict[str, int] | None = None  # given: it may be cut too


MODELS = {
    "silero_vad_16k": Expected(
        {"state": "stateN"}, {"state": (2, 128)}, {"state": 1}, constants=("sr",)
    ),
    "silero_vad_v6": Expected(
        {"h": "hn", "c": "cn"}, {"h": (1, 1, 128), "c": (1, 1, 128)}, time={"input": 0}
    ),
    "gtcrn": Expected(
        {
            "conv_cache": "conv_cache_out",
            "tra_cache": "tra_cache_out",
            "inter_cache": "inter_cache_out",
        },
        {
            "conv_cache": (2, 1, 16, 16, 33),
            "tra_cache": (2, 3, 1, 1, 16),
            "inter_cache": (2, 1, 33, 16),
        },
    ),
    "dtln_1": Expected({"input_3": "tf_op_layer_stack_2"}, {"input_3": (1, 2, 128, 2)}),
    "keras_gru": Expected(
        {"h0_in": "Identity_1:0"}, {"h0_in": (8,)}, {"h0_in": 0}, time={"frames": 1}
    ),
    "keras_lstm": Expected(
        {f"keras_tensor_{i}": f"Identity_{n}:0" for n, i in enumerate((11, 12, 16, 17), 1)},
        {f"keras_tensor_{i}": (8,) for i in (11, 12, 16, 17)},
        {f"keras_tensor_{i}": 0 for i in (11, 12, 16, 17)},
        time={"keras_tensor_10": 1},
    ),
}


def added(path: Path, repository: Path) -> tuple[Path, Findings, Proof]:
    return add(
        path,
        repository,
        Choices(),
        name=None,
        max_batch_size=64,
        idle_seconds=60.0,
        replace=False,
    )


@pytest.mark.parametrize("name", MODELS)
def test_what_is_found(name: str, foreign: Path, tmp_path: Path) -> None:
    expected = MODELS[name]
    entry, findings, proof = added(foreign / f"{name}.onnx", tmp_path)
    assert {pair.input: pair.output for pair in findings.pairs} == expected.states
    assert findings.batch.axes == expected.batch_axes
    assert tuple(constant.name for constant in findings.constants) == expected.constants
    assert findings.time.inputs == (expected.time or {})
    assert findings.time.may_be_cut == (expected.time is not None)
    (spec,) = load(entry)
    assert {state.name: state.shape for state in spec.states} == expected.shapes
    assert spec.max_batch_size == (0 if expected.batch_axes is None else 64)
    assert proof.steps >= 16
    assert proof.largest < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_all_its_nodes_have_cuda_kernels(name: str, foreign: Path) -> None:
    import onnx

    placement = placement_of(onnx.load(foreign / f"{name}.onnx"))
    gated = [f for f in placement.fallbacks if f.op_type == "GRU" and "linear_before" in f.reason]
    assert list(placement.fallbacks) == gated


def test_silero_on_a_signal_as_its_own_code_runs_it(foreign: Path, tmp_path: Path) -> None:
    """Windows of 512 samples, 64 samples of context before each, `sr` 16000: as the package does.

    Plain ONNX Runtime with the state carried by hand, against rows of the server's engine.
    """
    path = foreign / "silero_vad_16k.onnx"
    entry, *_ = added(path, tmp_path)
    (spec,) = load(entry)
    engine = Engine(spec, provider="cpu", rows=8)
    plain = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    t = np.arange(512 * 20) / 16000
    tone = np.sin(2 * np.pi * 150 * t) * (1 + np.sin(2 * np.pi * 3 * t))
    signal = (0.3 * tone + 0.02 * rng.normal(size=t.size)).astype(np.float32)[None]
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    ours, theirs, row = [], [], 0
    for window in np.split(signal, 20, axis=1):
        x = np.concatenate([context, window], axis=1)
        feeds = {"input": x, "state": state, "sr": np.array(16000)}
        probability, state = plain.run(["output", "stateN"], feeds)
        write = 1 if row != 1 else 2
        answer = engine.run({"input": x}, np.array([row]), np.array([write]))
        row, context = write, x[:, -64:]
        ours.append(answer["output"])
        theirs.append(probability)
    np.testing.assert_allclose(np.stack(ours), np.stack(theirs), atol=1e-6)
    assert np.ptp(np.stack(theirs)) > 1e-3  # the signal does move it


@pytest.fixture(scope="module")
def torch_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports by torch's two exporters, of models with states as inputs and outputs."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("torch")

    class Lstm(nn.Module):
        def __init__(self, layers: int, bidirectional: bool, batch_first: bool = True) -> None:
            super().__init__()
            self.rnn = nn.LSTM(5, 8, layers, bidirectional=bidirectional, batch_first=batch_first)

        def forward(self, x: Any, h0: Any, c0: Any) -> Any:
            y, (h, c) = self.rnn(x, (h0, c0))
            return y, h, c

    class Gru(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(5, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Any, state: Any) -> Any:
            y, after = self.rnn(x, state)
            return self.head(y), after

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.gru = nn.LSTMCell(5, 8), nn.GRUCell(8, 8)
            self.head = nn.Linear(8, 4)

        def forward(self, a: Any, b: Any, c: Any, d: Any) -> Any:
            h, memory = self.lstm(a, (b, c))
            g = self.gru(h, d)
            return self.head(g), h, memory, g

    class Policy(nn.Module):
        """As recurrent PPO has it: actor and critic, states cleared where an episode begins."""

        def __init__(self) -> None:
            super().__init__()
            self.actor, self.critic = nn.LSTM(6, 8), nn.LSTM(6, 8)
            self.action, self.worth = nn.Linear(8, 2), nn.Linear(8, 1)

        def forward(self, obs: Any, pi_h: Any, pi_c: Any, vf_h: Any, vf_c: Any, begun: Any) -> Any:
            keep, x = (1 - begun).view(1, -1, 1), obs.unsqueeze(0)
            y, (h1, c1) = self.actor(x, (pi_h * keep, pi_c * keep))
            z, (h2, c2) = self.critic(x, (vf_h * keep, vf_c * keep))
            return self.action(y[0]), self.worth(z[0]), h1, c1, h2, c2

    def frames(count: int, first: str = "batch", second: str = "time") -> dict[str, Any]:
        states = {name: {1: "batch"} for name in ("h0", "c0", "state")[:count]}
        return {"x": {0: first, 1: second}, **states}

    def script(name: str, model: nn.Module, args: Any, ins: Any, outs: Any, axes: Any) -> None:
        torch.onnx.export(
            model.eval(), args, folder / f"{name}.onnx", input_names=ins, output_names=outs,
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip

    def dynamo(name: str, model: nn.Module, args: Any, ins: Any, outs: Any, axes: Any) -> None:
        shapes = axes and tuple(dict.fromkeys(axes[n], torch.export.Dim.DYNAMIC) for n in ins)
        torch.onnx.export(
            model.eval(), args, folder / f"{name}.onnx", input_names=ins, output_names=outs,
            dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip

    def zeros(count: int, *shape: int) -> list[torch.Tensor]:
        return [torch.zeros(shape) for _ in range(count)]  # one tensor twice would become one input

    x = torch.randn(2, 3, 5)
    lstm = ["x", "h0", "c0"], ["y", "hn", "cn"]
    time_major = (x, *zeros(2, 1, 3, 8))
    cells = (torch.randn(1, 5), *zeros(3, 1, 8))
    script("lstm2", Lstm(2, False), (x, *zeros(2, 2, 2, 8)), *lstm, frames(2))
    script("lstm2bi", Lstm(2, True), (x, *zeros(2, 4, 2, 8)), *lstm, frames(2))
    script("time_major", Lstm(1, False, False), time_major, *lstm, frames(2, "time", "batch"))
    memory = ["pi_h", "pi_c", "vf_h", "vf_c"]
    policy = ["obs", *memory, "episode_starts"]
    after = ["actions", "values", *(f"{name}_out" for name in memory)]
    axes = {name: {1 if name in memory else 0: "batch"} for name in policy}
    given = (torch.randn(2, 6), *zeros(4, 1, 2, 8), *zeros(1, 2))
    script("policy", Policy(), given, policy, after, axes)
    script("cells_nameless", Cells(), cells, None, None, None)
    dynamo("lstm_dynamo", Lstm(1, False), (x, *zeros(2, 1, 2, 8)), *lstm, frames(2))
    gru_axes = {"x": {0: "b", 1: "t"}, "state": {1: "b"}}
    gru = ["x", "state"], ["y", "new_state"]
    dynamo("gru_dynamo", Gru(), (x, *zeros(1, 1, 2, 8)), *gru, gru_axes)
    dynamo("cells_dynamo", Cells(), cells, None, None, None)
    return folder


LSTM = {"h0": "hn", "c0": "cn"}
POLICY = {name: f"{name}_out" for name in ("pi_h", "pi_c", "vf_h", "vf_c")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporters' own
@pytest.mark.parametrize(
    ("name", "states", "batched", "cut"),
    [
        ("lstm2", LSTM, True, True),
        ("lstm2bi", LSTM, True, False),
        ("time_major", LSTM, True, True),
        ("policy", POLICY, True, False),
        ("lstm_dynamo", LSTM, True, True),
        ("gru_dynamo", {"state": "new_state"}, True, True),
        # the order of the states, though neither exporter kept a name of them
        ("cells_nameless", {1: 1, 2: 2, 3: 3}, False, False),
        ("cells_dynamo", {1: 1, 2: 2, 3: 3}, False, False),
    ],
)
def test_torchs_exporters(
    torch_models: Path,
    tmp_path: Path,
    name: str,
    states: dict[Any, Any],
    batched: bool,
    cut: bool,
) -> None:
    _, findings, proof = added(torch_models / f"{name}.onnx", tmp_path)
    inputs = [value.name for value in findings.model.inputs]
    outputs = [value.name for value in findings.model.outputs]
    expected = {
        (i if isinstance(i, str) else inputs[i]): (o if isinstance(o, str) else outputs[o])
        for i, o in states.items()
    }
    assert {pair.input: pair.output for pair in findings.pairs} == expected
    assert findings.batched == batched
    assert findings.time.may_be_cut == cut
    assert proof.largest < 1e-5
    start = findings.trial.start
    assert (start is not None and start.name) == (name == "policy" and "episode_starts")
