"""Sessions that begin with more than a model: with constants, or with another session's states."""

import asyncio

import numpy as np
import pytest

import rnnserve
from rnnserve import InvalidRequest, SessionClosed

ONES = np.ones((4, 3), np.float32)


def test_constants_are_converted_as_the_model_has_them(client, fake):
    with client.session("scaled", constants={"gain": [[2, 4.5]]}) as session:
        assert session.step(ONES).tolist() == [24, 54]
        (gain,) = session.constants_spec
        assert (gain.name, gain.dtype, gain.shape) == ("gain", np.float16, (-1, 2))
    (sent,) = fake.opened.constants
    assert (sent.name, sent.datatype, list(sent.shape)) == ("gain", "FP16", [1, 2])
    assert sent.contents == np.float16([2, 4.5]).tobytes()
    assert fake.opened.model_version == "1"  # the one that was described
    assert fake.received == ["describe", "open", "step", "close"]


@pytest.mark.parametrize("given", [[1, 2], np.int64([[1, 2]]), {"gain": np.float64([1, 2])}])
def test_the_only_constant_needs_no_name_and_one_row_no_axis(client, given):
    with client.session("scaled", constants=given) as session:
        assert session.step(ONES[0]).tolist() == [3, 6]


def test_constants_of_several_rows(client):
    with client.session("scaled", batch_size=2, constants=[[1, 2], [3, 4]]) as session:
        assert session.step(ONES[:2]).tolist() == [[3, 6], [9, 12]]


def test_constants_of_a_model_without_a_batch_axis(client, fake):
    with client.session("alone", constants=2) as session:
        assert session.step({"frames": ONES, "scale": 1})["totals"].tolist() == [8, 16]
    assert list(fake.opened.constants[0].shape) == []


@pytest.mark.parametrize(
    ("model", "constants", "error", "text"),
    [
        (
            "scaled",
            [1, 2, 3],
            ValueError,
            r"constant 'gain': expected shape \(1, 2\) or \(2,\), gi",
        ),
        ("scaled", ["a", "b"], TypeError, "constant 'gain': expected float16, given"),
        ("scaled", [1e9, 0], ValueError, "constant 'gain': a value is too large for float16"),
        ("scaled", {"loss": [1, 2]}, ValueError, "expected the constants gain, given loss"),
        ("scaled", {}, ValueError, "expected the constants gain, given none"),
        ("sums", {"gain": 1}, ValueError, "expected the constants none, given gain"),
        ("sums", [1, 2], TypeError, "expected a dict with the constants of the model, none"),
        ("alone", [2], ValueError, r"constant 'limit': expected shape \(\), given \(1,\)"),
    ],
)
def test_constants_that_do_not_fit_open_no_session(client, fake, model, constants, error, text):
    session = client.session(model, constants=constants)
    with pytest.raises(error, match=text):
        session.open()
    assert fake.received == ["describe"]


def test_a_model_is_described(client):
    info = client.model("scaled")
    assert isinstance(info, rnnserve.ModelInfo)
    assert (info.model, info.version, info.digest) == ("scaled", "1", "ab" * 32)
    assert (info.batched, info.max_batch_size, info.idle_ttl_s) == (True, 4, 60)
    assert [tensor.has_default for tensor in info.inputs] == [False, True]
    assert [tensor.name for tensor in info.constants] == ["gain"]
    assert not client.model("alone").batched
    with pytest.raises(rnnserve.ModelNotFound):
        client.model("nothing")


def test_states_of_another_session(client, fake):
    with client.session("sums") as first:
        first.step(ONES)
        with client.session("sums", states_of=unwrapped(first)) as second:
            assert second.step(ONES).tolist() == [24, 48]
        assert fake.opened.states_of.session.session_id == first.id
        assert not fake.opened.states_of.states
        with client.session("sums", states_of=(unwrapped(first), {"total": "total"})):
            assert dict(fake.opened.states_of.states) == {"total": "total"}
        assert first.step(ONES).tolist() == [24, 48]


def test_the_other_session_may_be_opened_later(client):
    first = client.session("sums")
    second = client.session("sums", states_of=unwrapped(first))
    with pytest.raises(RuntimeError, match="the session is not open"):
        second.open()
    with first, client.session("sums", states_of=unwrapped(first)) as third:
        assert third.step(ONES).tolist() == [12, 24]


def test_a_closed_session_has_no_states(client, fake):
    with client.session("sums") as first:
        pass
    fake.received.clear()
    with pytest.raises(SessionClosed, match="this client has closed"):
        client.session("sums", states_of=unwrapped(first)).open()
    assert fake.received == []


@pytest.mark.parametrize("states_of", ["a", ("a", {}), 1, ()])
def test_what_is_no_session(client, states_of):
    with pytest.raises(TypeError, match="states_of: expected a session, or a session and a dict"):
        client.session("sums", states_of=states_of)


def test_only_one_of_initial_state_and_states_of(client):
    first = unwrapped(client.session("sums"))
    with pytest.raises(ValueError, match="expected initial_state or states_of, given both"):
        client.session("sums", states_of=first, initial_state={"total": [[1, 1]]})


def test_the_server_s_refusal(client, fake):
    with client.session("sums") as first:
        fake.refuse(rnnserve.errors.grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
        with pytest.raises(InvalidRequest, match="the server's words"):
            client.session("sums", states_of=unwrapped(first)).open()
        fake.refusal = None


def test_steps_of_a_stream_that_was_left_come_first(fake):
    """asyncio: a session that is the source waits for what is under way."""

    async def run():
        async with rnnserve.aio.connect(fake.target) as client, client.session("sums") as first:
            async for _ in first.stream([ONES] * 8, window=4):
                break
            async with client.session("sums", states_of=first) as second:
                assert first.step_count > 1
                states = await second.get_states()
                assert states["total"][0, 0] == 12 * first.step_count

    asyncio.run(run())


def unwrapped(session):
    """The client's own object, whatever the fixture has put around it."""
    return getattr(session, "_target", session)
