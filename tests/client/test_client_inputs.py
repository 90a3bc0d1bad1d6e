"""Several inputs, by name or not, of which some may be left out; no inputs; no batch axis."""

import numpy as np
import pytest

ONES = np.ones((4, 3), np.float32)
EVEN = np.array([True, False, True, False])
GAIN = [[1, 2]]


@pytest.fixture
def scaled(client):
    with client.session("scaled", constants=GAIN) as session:
        yield session


@pytest.mark.parametrize(
    "mask", [EVEN, EVEN.tolist(), EVEN[None]], ids=["time", "list", "batch and time"]
)
def test_a_mask_may_be_given_by_name(scaled, mask):
    x = ONES[None] if np.ndim(mask) == 2 else ONES
    assert np.ravel(scaled.step(x, mask=mask)).tolist() == [6, 12]
    assert np.ravel(scaled.step(x)).tolist() == [18, 36]  # all of them count
    assert np.ravel(scaled.step({"frames": x, "mask": mask})).tolist() == [24, 48]
    assert np.ravel(scaled.step({"frames": x})).tolist() == [36, 72]
    assert np.ravel(scaled.step({"frames": x}, mask=mask)).tolist() == [42, 84]
    assert np.ravel(scaled.step(frames=x, mask=mask)).tolist() == [48, 96]
    assert np.ravel(scaled.step(x.tolist())).tolist() == [60, 120]


def test_a_frame_with_its_mask(scaled):
    assert scaled.step(ONES[0], mask=False).tolist() == [0, 0]
    assert scaled.step(ONES[0], mask=True).tolist() == [3, 6]


def test_frames_of_several_rows(client):
    with client.session("scaled", batch_size=2, constants=GAIN * 2) as session:
        output = session.step(ONES[:2], mask=[True, False])
        assert output.tolist() == [[3, 6], [0, 0]]
        output = session.step(ONES.reshape(2, 2, 3), mask=[[True, False], [True, True]])
        assert output.tolist() == [[6, 12], [6, 12]]


def test_items_of_a_stream_may_hold_one(scaled):
    items = [ONES, {"frames": ONES, "mask": EVEN}, {"frames": ONES}]
    assert [output.tolist() for output in scaled.stream(items)] == [[12, 24], [18, 36], [30, 60]]


@pytest.mark.parametrize(
    ("arguments", "named", "error", "text"),
    [
        ((), {}, ValueError, r"expected the inputs frames, mask \(optional\), given none"),
        ((), {"mask": EVEN}, ValueError, "expected the inputs frames, .*, given mask"),
        ((ONES,), {"musk": EVEN}, ValueError, "given frames, musk"),
        ((ONES,), {"frames": ONES}, TypeError, "input 'mask': expected bool, given float32"),
        (({"frames": ONES},), {"frames": ONES}, ValueError, "given twice: the inputs frames"),
        ((ONES,), {"mask": EVEN[None]}, ValueError, "inputs must leave out the same axes"),
        ((ONES,), {"mask": np.ones(4)}, TypeError, "input 'mask': expected bool, given float64"),
    ],
)
def test_what_does_not_fit_is_not_sent(scaled, fake, arguments, named, error, text):
    with pytest.raises(error, match=text):
        scaled.step(*arguments, **named)
    assert "step" not in fake.received


def test_several_inputs_by_name(client):
    frames = np.ones((1, 4, 1), np.float32)
    with client.session("pair") as session:
        by_dict = session.step({"frames": frames, "gain": [2]})
        session.reset_states()
        for output in (
            session.step(frames=frames, gain=[2]),
            (session.reset_states(), session.step(frames, gain=[2]))[1],
            (session.reset_states(), session.step([2], frames=frames))[1],
        ):
            for name in ("up", "down"):
                np.testing.assert_array_equal(output[name], by_dict[name])
        with pytest.raises(
            TypeError, match="expected a dict with the inputs frames, gain, or each"
        ):
            session.step(frames)


def test_a_model_that_takes_and_gives_nothing(client):
    with client.session("quiet", batch_size=2) as session:
        assert session.step() == {}
        outputs, states = session.step({}, return_state=True)
        assert (outputs, states["total"].tolist()) == ({}, [[2, 2], [2, 2]])
        with pytest.raises(TypeError, match="expected a dict with the inputs none"):
            session.step(ONES)
        assert list(session.stream([None, {}])) == [{}, {}]
        assert session.step_count == 4


def test_without_a_batch_axis(client):
    with client.session("alone", constants=100) as session:
        output = session.step(ONES, scale=2)
        assert output["totals"].tolist() == [24, 48]
        assert (output["count"].shape, output["count"].item()) == ((), 4)
        output = session.step(ONES, scale=2, return_sequences=True)
        assert output["totals"].shape == (4, 2)
        assert output["totals"][-1].tolist() == [48, 96]
        output = session.step(ONES[0], scale=1, return_sequences=True)  # a frame
        assert output["totals"].tolist() == [51, 102]
        for shape in [(1, 4, 3), (1, 1, 3)]:
            with pytest.raises(ValueError, match=r"expected shape \(time, 3\) or \(3,\), given"):
                session.step(np.ones(shape, np.float32), scale=1)
        with pytest.raises(ValueError, match=r"input 'scale': expected shape \(\), given \(1,\)"):
            session.step(ONES, scale=[1])


def test_states_without_a_batch_axis(client):
    with client.session("alone", constants=100, initial_state={"total": [1, 2]}) as session:
        assert session.get_states()["total"].tolist() == [1, 2]
        _, states = session.step(ONES, scale=1, return_state=True)
        assert states["total"].tolist() == [13, 26]
        session.reset_states()
        assert session.get_states()["total"].tolist() == [0, 0]
        session.set_states({"total": [5, 6]})
        assert session.get_states()["total"].tolist() == [5, 6]
        items = [{"frames": ONES, "scale": 1}] * 2
        totals = [output["totals"].tolist() for output in session.stream(items)]
        assert totals == [[17, 30], [29, 54]]
        with pytest.raises(ValueError, match=r"expected shape \(2,\), given \(1, 2\)"):
            session.set_states({"total": [[5, 6]]})
