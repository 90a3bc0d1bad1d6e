"""What torch's exporter does for us: cells of one's own, and any module around the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import export
import models
from export.program import program
from export.verify import verify

if TYPE_CHECKING:
    from export.program import Program

FEATURES = 5


def prove(model: nn.Module, **options: Any) -> Program:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4, generator=generator)
    made = program(model, **options)
    proof = verify(made.plan, made.model.SerializeToString())
    assert not proof.failures
    assert proof.rows
    return made


def rnn(cell: Any, **options: Any) -> models.RNN:
    layer = models.RNN(cell, return_sequences=True, **options)
    layer.build((None, None, FEATURES))
    return layer


class Plain:
    """No module, no base class; its output is not its state."""

    state_size = 3

    def __init__(self) -> None:
        self.kernel = torch.randn(FEATURES, 3, generator=torch.Generator().manual_seed(0))

    def call(self, x: Tensor, states: Any, constants: Any = None) -> Any:
        h = torch.tanh(x @ self.kernel + states[0])
        if constants:
            h = h + constants[0]
        return 2 * h, (h,)


class Shapes(nn.Module):
    """Two states, one of them a matrix; an output of another size."""

    state_size = ((2, 3), 4)
    output_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, 4)

    def call(self, x: Tensor, states: Any) -> Any:
        matrix, vector = states
        vector = torch.sigmoid(self.linear(x)) * vector + 0.1 * matrix.sum((1, 2))[:, None]
        return vector[:, :2], (0.5 * matrix + vector[:, :3].unsqueeze(1), vector)


class Shifted(models.GRUCell):
    """A GRU whose output is not its state, so that what it says of its first output is wrong."""

    def call(self, x: Tensor, states: Any, training: bool | None = None) -> Any:
        output, new = super().call(x, states, training)
        return output + 1, new


class Wrapped(nn.Module):
    """torch's own cell inside: its state is the layer's."""

    state_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRUCell(FEATURES, 4)

    def call(self, x: Tensor, states: Any) -> Any:
        h = self.inner(x, states[0])
        return h, (h,)


CELLS = {"plain": Plain, "shapes": Shapes, "shifted": lambda: Shifted(4), "wrapped": Wrapped}


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_cells_of_ones_own(cell: Any, masked: bool) -> None:
    made = prove(rnn(cell()), mask=masked)
    assert made.signature.may_be_cut == (not masked)  # what a masked first step gives is unknown
    assert "Scan" in {node.op_type for node in made.model.graph.node}


def test_in_a_stack_with_a_built_in_cell() -> None:
    made = prove(rnn([Shapes(), models.LSTMCell(3)]))
    assert [state.name for state in made.signature.states] == [
        *("rnn_cell_0_state_0", "rnn_cell_0_state_1", "rnn_cell_1_h", "rnn_cell_1_c")
    ]


def test_an_activation_of_ones_own() -> None:
    layer = rnn(models.LSTMCell(4, recurrent_activation=lambda x: (0.3 * x + 0.5).clamp(0, 1)))
    assert prove(layer, mask=True).signature.may_be_cut


def test_constants_come_once_per_session() -> None:
    layer = models.RNN(Plain(), return_sequences=True)
    layer.build([(None, None, FEATURES), (None, 3)])
    made = prove(
        layer,
        inputs={
            "frames": models.Input((None, None, FEATURES)),
            "context": models.Input((None, 3), constant=True),
        },
    )
    assert [(t.name, t.constant) for t in made.signature.inputs] == [
        ("frames", False),
        ("context", True),
    ]


class Both(nn.Module):
    """Two inputs, two outputs, one layer in each direction, torch's own layers around."""

    def __init__(self) -> None:
        super().__init__()
        self.forward_layer = models.LSTM(4, return_sequences=True)
        self.backward_layer = models.GRU(3, return_sequences=True, go_backwards=True)
        self.before, self.after = nn.Linear(FEATURES, 6), nn.LayerNorm(7)
        for layer in (self.forward_layer, self.backward_layer):
            layer.build((None, None, 6))

    def forward(self, audio: Tensor, speaker: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.before(audio)) + speaker[:, None]
        both = [self.forward_layer(x), self.backward_layer(x).flip(1)]
        y = self.after(torch.cat(both, dim=-1))
        return {"frames": y, "pooled": y.mean(1)}


def test_a_module_with_several_inputs_and_outputs() -> None:
    made = prove(
        Both(),
        inputs={
            "audio": models.Input((None, None, FEATURES)),
            "speaker": models.Input((None, 6), constant=True),
        },
    )
    assert not made.signature.may_be_cut
    assert [state.name for state in made.signature.states] == [
        *("forward_layer_h", "forward_layer_c", "backward_layer_h")
    ]
    assert {t.name: t.time_axis for t in made.signature.outputs} == {"frames": 1, "pooled": None}


class Twice(nn.Module):
    """The same layer called twice has two states."""

    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.inputs = {"x": models.Input((None, None, 4))}
        self.layer = models.LSTM(4, return_sequences=True)
        self.layer.build((None, None, 4))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(self.layer(x))
        return y


def test_a_layer_that_is_called_twice() -> None:
    made = prove(Twice())
    assert made.signature.may_be_cut
    assert [state.name for state in made.signature.states] == [
        *("layer_h", "layer_c", "layer_call_2_h", "layer_call_2_c")
    ]


class Sine(models.Layer):
    """A layer of one's own."""

    def call(self, inputs: Tensor) -> Tensor:
        return torch.sin(inputs)


class Doubled(models.Dense):
    """Looks like a Dense and computes something else."""

    def call(self, inputs: Tensor) -> Tensor:
        return 2 * super().call(inputs)


@pytest.mark.parametrize(
    "layer", [Sine, lambda: Doubled(6), lambda: models.Dense(6, torch.sin)], ids=str
)
def test_layers_of_ones_own_in_a_sequential(layer: Any) -> None:
    model = models.Sequential([layer(), models.LSTM(3, return_sequences=True)])
    model.build((None, None, FEATURES))
    assert not prove(model).signature.may_be_cut  # a layer of one's own may look anywhere
    assert prove(model, may_be_cut=True).signature.may_be_cut


class Mean(models.Layer):
    """Not causal: every frame sees all of the request."""

    def call(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(dim=1, keepdim=True)


def test_what_may_not_be_cut_fails_the_proof_if_one_says_so() -> None:
    model = models.Sequential([Mean(), models.LSTM(3, return_sequences=True)])
    model.build((None, None, FEATURES))
    prove(model)
    made = program(model, may_be_cut=True)
    proof = verify(made.plan, made.model.SerializeToString())
    assert {row.comparison for row in proof.failures} == {
        *("steps, random", "strangers, random", "chunks, random")
    }


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 4)

    def forward(self, frames: Tensor) -> Tensor:
        y: Tensor = self.rnn(frames)[0]
        return y


class BranchesOnValues(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames if frames.sum() > 0 else -frames


class Doubling(models.LSTM):
    """Its loop is another one than the family's."""

    def scan(self, *args: Any, **kwargs: Any) -> Any:
        y, final = super().scan(*args, **kwargs)
        return 2 * y, final


class BeginsWithOnes(models.LSTM):
    def get_initial_state(self, inputs: Tensor) -> Any:
        return tuple(torch.ones_like(state) for state in super().get_initial_state(inputs))


class Noisy(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames + torch.rand_like(frames)


class Counting(nn.Module):
    """Another answer each time: its state is where nobody carries it."""

    calls = 0

    def forward(self, frames: Tensor) -> Tensor:
        self.calls += 1
        return frames * self.calls


class OnceForEachTimestep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = models.GRU(3, return_sequences=True)
        self.gru.build((None, None, FEATURES))

    def forward(self, frames: Tensor) -> Tensor:
        steps = range(frames.shape[1])
        return torch.cat([self.gru(frames[:, t : t + 1]) for t in steps], dim=1)


class Frozen(nn.Module):
    """A loop over time of one's own, which torch's exporter writes out for the example's."""

    def forward(self, frames: Tensor) -> Tensor:
        h = frames[:, 0]
        for t in range(1, frames.shape[1]):
            h = torch.tanh(h + frames[:, t])
        return h


class Returns(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def forward(self, frames: Tensor) -> Any:
        return self.what(frames)


class CountsInWholeNumbers:
    state_size = 1

    def call(self, x: Tensor, states: Any) -> Any:
        return x, (states[0].long() + 1,)


class Names(nn.Module):
    """Names that torch's exporter takes for its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = {"linear": models.Input((None, None, FEATURES))}
        self.gru, self.head = models.GRU(4, return_sequences=True), nn.Linear(4, 3)
        self.gru.build((None, None, FEATURES))

    def forward(self, linear: Tensor) -> dict[str, Tensor]:
        y = self.head(self.gru(linear))
        return {"getitem": y, "softmax": y.softmax(-1)}


def test_names_that_an_exporter_uses_too() -> None:
    prove(Names())


def layer_of(kind: Any) -> models.RNN:
    layer: models.RNN = kind(4, return_sequences=True)
    layer.build((None, None, FEATURES))
    return layer


class Loudness(nn.Module):
    """Defined for positive numbers only."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = models.GRU(3, return_sequences=True)
        self.gru.build((None, None, FEATURES))

    def forward(self, frames: Tensor) -> Tensor:
        y: Tensor = self.gru(torch.log(frames))
        return y


def test_a_model_that_takes_positive_numbers_only() -> None:
    prove(Loudness(), inputs={"frames": models.Input((None, None, FEATURES), low=0.1, high=9)})


FRAMES = {"frames": models.Input((None, None, FEATURES))}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Foreign, {"inputs": FRAMES}, "rnn is torch's LSTM, whose states nobody would keep"),
        (Twice, {"inputs": FRAMES}, "the model does not run on inputs"),
        (Both, {}, "what Both takes is not known: name its inputs"),
        (BranchesOnValues, {"inputs": FRAMES}, "BranchesOnValues: torch cannot export it"),
        (Twice, {"outputs": ["a", "b"]}, "returns 1 tensors, but 2 outputs are named"),
        (Both, {"mask": True, "inputs": FRAMES}, "mask=True is for a Sequential"),
        (lambda: layer_of(Doubling), {}, "overrides `scan` or `get_initial_state`"),
        (lambda: layer_of(BeginsWithOnes), {}, "overrides `scan` or `get_initial_state`"),
        (Noisy, {"inputs": FRAMES}, "gives other numbers each time"),
        (Counting, {"inputs": FRAMES}, "gives other numbers each time"),
        (OnceForEachTimestep, {"inputs": FRAMES}, "depends on the number of timesteps: 7 make 7"),
        (lambda: Returns(lambda x: (x, None)), {"inputs": FRAMES}, "'output_1' of the model is No"),
        (lambda: Returns(lambda x: x[0]), {"inputs": FRAMES}, "its first axis is not the batch"),
        (lambda: Returns(lambda x: x.bfloat16()), {"inputs": FRAMES}, "is of bfloat16"),
        (lambda: Returns(lambda x: (x, x)), {"inputs": FRAMES, "outputs": "yy"}, "all different"),
        (lambda: rnn(CountsInWholeNumbers()), {}, "'rnn_state_0' is of torch.int64"),
        (Twice, {"inputs": {"x": (None, None, 4)}}, "expected a models.Input"),
        (lambda: layer_of(models.LSTM), {"inputs": {"x": models.Input((None, 7, 5))}}, "any numb"),
        (lambda: layer_of(models.LSTM), {"target": "gpu"}, "expected 'cuda' or 'cpu'"),
        (lambda: layer_of(models.LSTM), {"dtype": "float8"}, "expected float32 or float16"),
        (Twice, {"may_be_cut": False, "one_step": True}, "may be cut between any two timesteps"),
    ],
)
def test_what_cannot_be_exported(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(export.ExportError, match=message):
        program(model(), **options)


def test_a_loop_that_is_frozen_is_caught_by_the_proof() -> None:
    made = program(Frozen(), inputs=FRAMES)
    with pytest.raises(export.ExportError, match=r"does not run on|has shape"):
        verify(made.plan, made.model.SerializeToString())


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="no such option: one_steps"):
        program(layer_of(models.LSTM), **{"one_steps": True})


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [models.Masking(0.0), models.LSTM(3)],
        lambda: [models.Dense(3)],
    ],
)
def test_a_mask_that_nobody_would_obey(layers: Any) -> None:
    model = models.Sequential(layers())
    model.build((None, None, FEATURES))
    with pytest.raises(export.ExportError, match="mask=True"):
        program(model, mask=True)


@pytest.mark.parametrize("shape", [(), (2, None, 3), (None, 3, None)])
def test_inputs_have_the_batch_first(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="the batch axis first"):
        models.Input(shape)
