"""Forks, snapshots, keeping alive, describing: both clients."""

import numpy as np
import pytest

import rnnserve

ONE = np.float32([1, 0, 0])  # adds [1, 2]


def test_a_fork_goes_its_own_way(client, fake):
    with client.session("sums") as session:
        session.step(ONE)
        with session.fork(idle_ttl_s=5) as forked:
            assert forked.id != session.id
            assert forked.token != session.token
            assert (forked.model, forked.batch_size) == ("sums", 1)
            assert forked.step(ONE * 10).tolist() == [11, 22]
            assert session.step(ONE).tolist() == [2, 4]
            assert forked.step_count == fake.sessions[forked.id].step
        assert list(fake.sessions) == [session.id]
        with pytest.raises(rnnserve.SessionClosed):
            forked.step(ONE)
        with pytest.raises(ValueError, match="idle_ttl_s: expected more than 0 seconds, given 0"):
            session.fork(idle_ttl_s=0)


def test_a_fork_of_a_session_that_is_gone(client, fake):
    with client.session("sums") as session:
        fake.sessions.clear()
        with pytest.raises(rnnserve.SessionNotFound):
            session.fork()


def test_a_snapshot_goes_on_elsewhere(client, fake):
    with client.session("sums") as session:
        session.step(ONE)
        snapshot = session.snapshot()
        session.step(ONE)
    assert type(snapshot) is bytes
    with client.restore(snapshot) as restored:
        assert restored.step(ONE).tolist() == [2, 4]
    restored = client.restore(snapshot, "sums", "1", session_id="mine", idle_ttl_s=5)
    with pytest.raises(RuntimeError, match="not open"):
        restored.step(ONE)
    restored.open()
    assert list(fake.sessions) == ["mine"]
    restored.close()
    assert not fake.sessions


def test_a_snapshot_that_is_refused(client, fake):
    restored = client.restore(b"something else")
    with pytest.raises(rnnserve.SnapshotRefused, match="damaged"):
        restored.open()
    assert not fake.sessions
    with pytest.raises(ValueError, match="idle_ttl_s"):
        client.restore(b"sums", idle_ttl_s=-1)


def test_keeping_alive_changes_nothing(client, fake):
    with client.session("sums") as session:
        session.step(ONE)
        assert session.keep_alive() is None
        assert session.step_count == 1
        assert fake.received[-1] == "keep_alive"
        fake.sessions[session.id].expired = True
        with pytest.raises(rnnserve.SessionExpired):
            session.keep_alive()


def test_a_session_is_described(client):
    with client.session("sums", session_id="mine") as session:
        session.step(ONE)
        session.step(ONE)
        assert session.describe() == rnnserve.SessionInfo(
            *("mine", "sums", "1", 1, 2, 0.5, 60.0),
            pending=3,
            on_host=True,
            remembered_from=2,
        )


def test_a_session_that_is_open_may_be_entered(client, fake):
    session = client.session("sums").open()
    with session:
        session.step(ONE)
    assert not fake.sessions
    with pytest.raises(RuntimeError, match="only once"), session:
        pass
