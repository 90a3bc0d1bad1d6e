"""Sessions of both clients: their life, their states, what they say of themselves."""

import numpy as np
import pytest

import rnnserve
from rnnserve import TensorSpec

FRAME = np.float32([1, 2, 3])


def test_a_session_lives_as_long_as_its_with(client, fake):
    with client.session("sums") as session:
        assert list(fake.sessions) == [session.id]
        np.testing.assert_array_equal(session.step(FRAME), [6, 12])
        np.testing.assert_array_equal(session.step(FRAME), [12, 24])
        assert session.step_count == 2
    assert session.closed
    assert not fake.sessions


def test_a_model_that_cannot_be_spoken_to_keeps_no_session(client, fake):
    session = client.session("texts")
    with pytest.raises(rnnserve.Unsupported, match="'words': no numpy dtype for 'BYTES'"):
        session.open()
    assert not fake.sessions
    assert session.closed


def test_resuming_what_cannot_be_spoken_to_leaves_it_to_others(client, fake):
    theirs = client.session("sums").open()
    fake.sessions[theirs.id].model = "texts"
    with pytest.raises(rnnserve.Unsupported):
        client.resume(theirs.id, theirs.token).open()
    assert list(fake.sessions) == [theirs.id]


def test_open_and_close_do_what_with_does(client, fake):
    session = client.session("sums").open()
    np.testing.assert_array_equal(session.step(FRAME), [6, 12])
    session.close()
    session.close()
    assert not fake.sessions
    assert fake.received == ["open", "step", "close"]


def test_a_session_knows_its_model(client, fake):
    float32 = np.dtype(np.float32)
    with client.session("sums", batch_size=2, session_id="mine") as session:
        assert session.id == "mine"
        assert session.token == fake.sessions["mine"].token
        assert (session.model, session.version, session.digest) == ("sums", "1", "ab" * 32)
        assert (session.batch_size, session.idle_ttl_s, session.step_count) == (2, 60.0, 0)
        assert session.inputs == (TensorSpec("frames", float32, (-1, -1, 3), 1),)
        assert session.outputs == (TensorSpec("totals", float32, (-1, -1, 2), 1),)
        assert session.states_spec == (TensorSpec("total", float32, (-1, 2)),)


def test_repr_tells_the_phase_and_never_the_token(client):
    session = client.session("sums", session_id="mine")
    assert repr(session) == "<Session not open>"
    with session:
        session.step(FRAME)
        opened = "<Session 'mine' of 'sums' version 1, batch_size 1, step 1, "
        assert repr(session) == opened + "open>"
    assert repr(session) == opened + "closed>"


def test_repr_of_a_client(client, fake):
    assert repr(client) == f"<Client of {fake.target}>"
    client.close()
    assert repr(client) == f"<Client of {fake.target}, closed>"


def test_states_can_be_read_set_and_reset(client):
    with client.session("sums", batch_size=2) as session:
        session.set_states({"total": [[1.0, 2.0], [3.0, 4.0]]})
        states = session.get_states()
        np.testing.assert_array_equal(states["total"], np.float32([[1, 2], [3, 4]]))
        states["total"][:] = 0  # a copy
        session.reset_states({"total": session.get_states()["total"] * 2})
        np.testing.assert_array_equal(session.get_states()["total"], [[2, 4], [6, 8]])
        session.reset_states()
        np.testing.assert_array_equal(session.get_states()["total"], np.zeros((2, 2)))


def test_states_as_a_property(fake):
    with rnnserve.connect(fake.target) as client, client.session("sums") as session:
        session.states = {"total": [[1, 2]]}
        np.testing.assert_array_equal(session.states["total"], np.float32([[1, 2]]))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({}, "expected the states total, given none"),
        ({"totals": [[0, 0]]}, "expected the states total, given totals"),
        ({"total": [0, 0]}, r"state 'total': expected shape \(1, 2\), given \(2,\)"),
    ],
)
def test_wrong_states_are_refused_before_they_are_sent(client, fake, states, message):
    with client.session("sums") as session:
        for method in (session.set_states, session.reset_states):
            with pytest.raises(ValueError, match=message):
                method(states)
        with pytest.raises(TypeError, match="expected a dict with the states total"):
            session.set_states([[0, 0]])
    assert fake.received == ["open", "close"]


def test_return_state_gives_the_states_too(client):
    with client.session("sums") as session:
        output, states = session.step(FRAME, return_state=True)
        np.testing.assert_array_equal(output, [6, 12])
        np.testing.assert_array_equal(states["total"], [[6, 12]])


def test_initial_state_is_converted_like_any_state(client):
    with client.session("sums", initial_state={"total": [[10.0, 20.0]]}) as session:
        np.testing.assert_array_equal(session.step(FRAME), [16, 32])


def test_a_wrong_initial_state_leaves_no_session_behind(client, fake):
    with pytest.raises(ValueError, match="state 'total'"):
        client.session("sums", initial_state={"total": [1.0]}).open()
    assert not fake.sessions


def test_resume_takes_up_a_session_with_its_state(client, connect, fake):
    with client.session("sums") as session:
        session.step(FRAME)
        elsewhere = connect(fake.target).resume(session.id, session.token).open()
        assert (elsewhere.step_count, elsewhere.model) == (1, "sums")
        np.testing.assert_array_equal(elsewhere.step(FRAME), [12, 24])
        session.get_states()  # says that there was a step meanwhile
        np.testing.assert_array_equal(session.step(FRAME), [18, 36])


def test_resume_needs_the_token(client):
    with client.session("sums") as session:
        with pytest.raises(rnnserve.SessionNotFound, match="no such session"):
            client.resume(session.id, "guessed").open()
        with pytest.raises(ValueError, match="id and its token"):
            client.resume(session.id, "")


def test_sessions_lists_every_page(client):
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        client.session("pair" if name == "d" else "sums", session_id=name).open()
    infos = client.sessions()
    assert [info.id for info in infos] == names
    assert infos[0] == rnnserve.SessionInfo("a", "sums", "1", 1, 0, 0.5, 60.0, 3, True, 0)
    assert [info.id for info in client.sessions("pair")] == ["d"]
    assert client.sessions("none") == []


def test_the_body_s_exception_wins_over_closing_s(client, fake):
    def body():
        with client.session("sums"):
            client.close()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()


def test_closing_a_session_that_is_gone_is_no_error(client, fake):
    with client.session("sums"):
        fake.sessions.clear()


def test_other_errors_of_closing_are_raised(client, fake):
    session = client.session("sums").open()
    client.close()
    with pytest.raises(rnnserve.ClientClosed):
        session.close()


def test_a_closed_session_says_so(client):
    with client.session("sums") as session:
        pass
    with pytest.raises(rnnserve.SessionClosed, match="this client has closed <Session"):
        session.step(FRAME)
    with pytest.raises(RuntimeError, match="only once"):
        session.open()


def test_a_session_that_is_not_open_says_so(client):
    session = client.session("sums")
    for use in (lambda: session.id, lambda: session.step(FRAME), lambda: session.stream([FRAME])):
        with pytest.raises(RuntimeError, match="not open"):
            next(use())


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"idle_ttl_s": 0}])
def test_session_arguments_that_cannot_be_right(client, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        client.session("sums", **wrong)


@pytest.mark.parametrize("target", ["localhost", "http://localhost:8001", "https://example:1"])
def test_targets_that_cannot_be_right(connect, target):
    with pytest.raises(ValueError, match="host:port"):
        connect(target)


def test_aio_connect_needs_a_running_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        rnnserve.aio.connect("localhost:8001")
