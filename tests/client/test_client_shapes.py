"""The table of `Session.step`: which axes may be left out, and what comes back."""

import numpy as np
import pytest

from rnnserve import TensorSpec
from rnnserve._shapes import Layout, agree, matcher

FLOAT = np.dtype(np.float32)
ONES = np.ones((2, 4, 3), np.float32)  # (batch, time, features); a frame of it adds [3, 6]


@pytest.mark.parametrize(
    ("batch_size", "x", "last", "sequence"),
    [
        (1, ONES[:1], (1, 2), (1, 4, 2)),
        (1, ONES[0], (2,), (4, 2)),
        (1, ONES[0, :1], (2,), (1, 2)),
        (1, ONES[0, 0], (2,), (2,)),
        (2, ONES, (2, 2), (2, 4, 2)),
        (2, ONES[:, :1], (2, 2), (2, 1, 2)),
        (2, ONES[:, 0], (2, 2), (2, 2)),
    ],
)
def test_what_is_left_out_of_x_is_left_out_of_the_answer(client, batch_size, x, last, sequence):
    frames = x.size // 3 // batch_size
    with client.session("sums", batch_size=batch_size) as session:
        output = session.step(x)
        assert output.shape == last
        np.testing.assert_array_equal(output.reshape(-1, 2)[-1], [3 * frames, 6 * frames])
        session.reset_states()
        output = session.step(x, return_sequences=True)
        assert output.shape == sequence
        np.testing.assert_array_equal(output.reshape(-1, 2)[0], [3, 6])
        np.testing.assert_array_equal(output.reshape(-1, 2)[-1], [3 * frames, 6 * frames])
        session.reset_states()
        (streamed,) = session.stream([x], return_sequences=True)
        np.testing.assert_array_equal(streamed, output)


@pytest.mark.parametrize(
    ("batch_size", "shape", "expected"),
    [
        (1, (4,), r"\(1, time, 3\) or \(time, 3\) or \(3,\), given \(4,\)"),
        (1, (), r"\(3,\), given \(\)"),
        (1, (2, 4, 3), r"given \(2, 4, 3\)"),
        (1, (1, 1, 4, 3), r"given \(1, 1, 4, 3\)"),
        (2, (3,), r"\(2, time, 3\) or \(2, 3\), given \(3,\)"),
        (2, (4, 3), r"given \(4, 3\)"),
        (1, (0, 3), r"at least one timestep is needed, given \(0, 3\)"),
    ],
)
def test_other_shapes_are_refused_before_they_are_sent(client, fake, batch_size, shape, expected):
    with client.session("sums", batch_size=batch_size) as session:
        with pytest.raises(ValueError, match=f"input 'frames': .*{expected}"):
            session.step(np.zeros(shape, np.float32))
        assert session.step_count == 0
    assert fake.received == ["open", "close"]


def test_several_inputs_and_outputs_go_by_name(client):
    with client.session("pair") as session:
        output = session.step({"frames": [[1.0], [2.0]], "gain": 10})
        assert {name: array.tolist() for name, array in output.items()} == {
            "up": [30.0],
            "down": [-30.0],
        }
        output = session.step({"gain": [10], "frames": [[[1.0], [2.0]]]}, return_sequences=True)
        assert output["up"].tolist() == [[[40.0], [60.0]]]
        assert output["down"].tolist() == [[-60.0]]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1.0]], TypeError, "expected a dict with the inputs frames, gain"),
        ({"frames": [[1.0]]}, ValueError, "expected the inputs frames, gain, given frames"),
        (
            {"frames": [[1.0]], "gain": [1]},
            ValueError,
            "must leave out the same axes, but 'frames' has time, 'gain' has batch",
        ),
        ({"frames": [[1.0]], "gain": 1.5}, TypeError, "'gain': expected int32, given float64"),
    ],
)
def test_inputs_that_do_not_fit_together(client, fake, x, error, message):
    with client.session("pair") as session, pytest.raises(error, match=message):
        session.step(x)
    assert fake.received == ["open", "close"]


def test_a_single_input_may_be_named_too(client):
    with client.session("sums") as session:
        assert session.step({"frames": [1, 1, 1]}).tolist() == [3.0, 6.0]
        with pytest.raises(ValueError, match="expected the inputs frames, given frame"):
            session.step({"frame": [1, 1, 1]})


@pytest.mark.parametrize(
    ("spec", "batch_size", "given", "wire", "layout"),
    [
        # time need not be the second axis: channels first
        (TensorSpec("x", FLOAT, (-1, 3, -1), 2), 1, (3,), (1, 3, 1), Layout(False, False)),
        (TensorSpec("x", FLOAT, (-1, 3, -1), 2), 1, (3, 7), (1, 3, 7), Layout(False, True)),
        (TensorSpec("x", FLOAT, (-1, 3, -1), 2), 4, (4, 3), (4, 3, 1), Layout(True, False)),
        # one number per timestep
        (TensorSpec("x", FLOAT, (-1, -1), 1), 1, (), (1, 1), Layout(False, False)),
        (TensorSpec("x", FLOAT, (-1, -1), 1), 3, (3,), (3, 1), Layout(True, False)),
        # no time axis
        (TensorSpec("x", FLOAT, (-1, 5)), 1, (5,), (1, 5), Layout(False, None)),
        (TensorSpec("x", FLOAT, (-1, 5)), 2, (2, 5), (2, 5), Layout(True, None)),
        # a free axis that does not count timesteps
        (TensorSpec("x", FLOAT, (-1, -1, -1), 1), 1, (0,), (1, 1, 0), Layout(False, False)),
    ],
)
def test_where_left_out_axes_go(spec, batch_size, given, wire, layout):
    assert matcher(spec, batch_size)(given) == (wire, layout)


def test_inputs_without_time_do_not_say_whether_it_is_left_out():
    both = {"a": Layout(True, None), "b": Layout(True, False)}
    assert agree(both) == Layout(True, False)
    assert agree({"a": Layout(False, None)}) == Layout(False, None)
