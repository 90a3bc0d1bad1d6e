"""A session as bytes: it goes on wherever they are restored, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import all_rows_are_free

Code = grpc.StatusCode
X = np.arange(1, 23).reshape(1, 11, 2)


async def snapshot(rig: Any, key: pb.SessionKey) -> bytes:
    answer = await rig.sessions.Snapshot(pb.SnapshotRequest(session=key))
    return bytes(answer.snapshot)


async def restore(rig: Any, stored: bytes, **fields: Any) -> pb.OpenSessionResponse:
    return await rig.sessions.Restore(pb.RestoreRequest(snapshot=stored, **fields))


async def refused(rig: Any, stored: bytes, **fields: Any) -> str:
    call = restore(rig, stored, **fields)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "SnapshotRefused")
    return str(error.details())


@pytest.fixture
async def stored(rig: Any) -> bytes:
    """Of a session that has run three steps with X."""
    key = await rig.open()
    for number in (1, 2, 3):
        await rig.step(key, X, step=number)
    stored = await snapshot(rig, key)
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    return stored


@pytest.mark.parametrize("batch_size", [1, 3])
async def test_there_and_back(rig: Any, batch_size: int) -> None:
    x = np.concatenate([X * (n + 1) for n in range(batch_size)])
    key = await rig.open(batch_size=batch_size)
    await rig.step(key, x)
    answer = await rig.sessions.Snapshot(pb.SnapshotRequest(session=key))
    assert answer.step == 1
    await rig.step(key, -x)  # the snapshot does not see it
    restored = await restore(rig, answer.snapshot)
    assert (restored.step, restored.batch_size, restored.model_name) == (1, batch_size, "fold")
    assert restored.session.session_id != key.session_id
    stepped = await rig.step(restored.session, x, step=2)
    expected = rig.fold(np.concatenate([x, x], 1))[:, -1]
    assert (rig.array_of(stepped.outputs[0]) == expected).all()
    assert (await rig.states(key)).step == 2


async def test_every_type_of_state(rig: Any) -> None:
    key = await rig.open("mixed")
    inputs = [rig.tensor("x", np.float32([[0.1, -2.5]])), rig.tensor("place", np.array([1]))]
    await rig.sessions.Step(pb.StepRequest(session=key, inputs=inputs))
    restored = (await restore(rig, await snapshot(rig, key))).session
    before, after = await rig.states(key), await rig.states(restored)
    assert after == before
    assert [state.datatype for state in after.states] == ["FP32", "INT64"]


async def test_after_the_steps_that_were_sent_before(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    step = await rig.arrived(rig.step(key, X))
    taking = await rig.arrived(snapshot(rig, key))
    later = await rig.arrived(rig.step(key, X))
    rig.held["fold"].released.set()
    assert [(await step).step, (await later).step] == [1, 2]
    assert (await restore(rig, await taking)).step == 1


async def test_the_same_bytes_as_often_as_they_are_wanted(rig: Any, stored: bytes) -> None:
    keys = [(await restore(rig, stored)).session for _ in range(3)]
    for number, key in enumerate(keys):
        await rig.step(key, X * number)
    begun = rig.fold(np.concatenate([X] * 3, 1))[:, -1]
    for number, key in enumerate(keys):
        states = await rig.states(key)
        assert states.step == 4
        assert (rig.array_of(states.states[0]) == rig.fold(X * number, begun)[:, -1]).all()
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)


async def test_on_another_server(make_rig: Any) -> None:
    first = await make_rig()
    key = await first.open(batch_size=2)
    x = np.concatenate([X, -X])
    await first.step(key, x)
    stored = await snapshot(first, key)
    await first.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    second = await make_rig()
    restored = await restore(second, stored)
    answer = await second.step(restored.session, x, step=2)
    expected = second.fold(np.concatenate([x, x], 1))[:, -1]
    assert (second.array_of(answer.outputs[0]) == expected).all()


async def test_under_an_id_of_ones_own(rig: Any, stored: bytes) -> None:
    own = {"session_id": "mine", "token": "secret"}
    restored = await restore(rig, stored, **own, idle_ttl_s=12)
    assert restored.session == pb.SessionKey(**own)
    assert restored.idle_ttl_s == 12
    await rig.refused(restore(rig, stored, session_id="mine"), Code.ALREADY_EXISTS, "SessionExists")
    assert (await restore(rig, stored)).idle_ttl_s == 60


async def test_a_version_of_the_same_model(rig: Any) -> None:
    """Both versions of "fold" have one digest: without a wish it is the version it was."""
    digests = {rig.serving.model("fold", version).spec.digest for version in ("1", "2")}
    assert len(digests) == 1
    for version in ("1", "2"):
        stored = await snapshot(rig, await rig.open(model_version=version))
        assert (await restore(rig, stored)).model_version == version
        assert (await restore(rig, stored, model_name="fold")).model_version == version
        for other in ("1", "2"):
            assert (await restore(rig, stored, model_version=other)).model_version == other


async def test_another_model(rig: Any, stored: bytes) -> None:
    for fields in ({"model_name": "mixed"}, {"model_name": "mixed", "model_version": "1"}):
        text = await refused(rig, stored, **fields)
        assert text.startswith("the snapshot is of model 'fold' version 2, digest ")
        assert text.endswith("and model 'mixed' is another one")
    for fields, code, kind in (
        ({"model_name": "other"}, Code.NOT_FOUND, "ModelNotFound"),
        ({"model_version": "9"}, Code.NOT_FOUND, "ModelNotFound"),
        ({"model_version": "x"}, Code.INVALID_ARGUMENT, "InvalidRequest"),
    ):
        await rig.refused(restore(rig, stored, **fields), code, kind)
    assert len(rig.serving.sessions) == 0


async def test_the_model_has_changed(rig: Any, stored: bytes) -> None:
    other = forged(stored, model_digest="0" * 64)
    assert (await refused(rig, other)).endswith("and this server has no such model")


async def test_every_byte_counts(rig: Any, stored: bytes) -> None:
    for place in range(len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= 1 << place % 8
        await refused(rig, bytes(damaged))
    assert len(rig.serving.sessions) == 0


async def test_a_part_of_it_is_none(rig: Any, stored: bytes) -> None:
    for length in range(len(stored)):
        await refused(rig, stored[:length])
    for more in (b"\0", stored):
        await refused(rig, stored + more)
    assert len(rig.serving.sessions) == 0


async def test_texts(rig: Any, stored: bytes) -> None:
    assert await refused(rig, b"") == "this is no snapshot of a session: 0 bytes"
    assert await refused(rig, b"x" * 40) == "this is no snapshot of a session: 40 bytes"
    text = await refused(rig, stored[:7] + b"\x02" + stored[8:])
    assert text == "the snapshot is of format version 02; this server reads version 01"
    text = await refused(rig, stored[:-1] + b"!")
    assert text == "the snapshot is damaged: its checksum does not fit"


def forged(stored: bytes, **fields: Any) -> bytes:
    """The snapshot with other contents, and a checksum that fits."""
    contents = pb.SnapshotContents.FromString(stored[24:])
    for name, value in fields.items():
        contents.ClearField(name)
        contents.MergeFrom(pb.SnapshotContents(**{name: value}))
    packed = contents.SerializeToString()
    return stored[:8] + hashlib.blake2b(packed, digest_size=16).digest() + packed


ODD = {
    "steps beyond all counting": {"step": 2**64 - 1},
    "steps beyond the server's numbers": {"step": 2**63},
    "steps of which there is no next one": {"step": 2**63 - 1},
    "no rows": {"batch_size": 0},
    "more rows than the states have": {"batch_size": 2},
    "more rows than there can be": {"batch_size": 2**32 - 1},
    "a state that the model has not": {"states": [pb.Tensor(name="c")]},
    "a state of another shape": {"states": [pb.Tensor(name="h", datatype="INT64", shape=[2])]},
    "constants that the model has not": {"constants": [pb.Tensor(name="h")]},
}


@pytest.mark.parametrize("case", ODD)
async def test_contents_that_cannot_be(rig: Any, stored: bytes, case: str) -> None:
    """Anybody can make a checksum that fits: the contents are checked like any request's."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await restore(rig, forged(stored, **ODD[case]))
    assert caught.value.code() is Code.INVALID_ARGUMENT, caught.value
    assert len(rig.serving.sessions) == 0
    assert all_rows_are_free(rig)
    assert (await restore(rig, stored)).step == 3


async def test_what_is_no_message(rig: Any, stored: bytes) -> None:
    packed = b"\xff" * 9
    no_message = stored[:8] + hashlib.blake2b(packed, digest_size=16).digest() + packed
    assert (await refused(rig, no_message)).startswith("the snapshot is damaged: ")


async def test_a_restored_session_can_be_forked_and_stored(rig: Any, stored: bytes) -> None:
    restored = (await restore(rig, stored)).session
    assert await snapshot(rig, restored) == stored
    forked = (await rig.sessions.Fork(pb.ForkRequest(session=restored))).session
    assert await snapshot(rig, forked) == stored


async def test_the_sessions_that_cannot_be_stored(rig: Any) -> None:
    key = pb.SessionKey(session_id="none", token="none")
    await rig.refused(snapshot(rig, key), Code.NOT_FOUND, "SessionNotFound")


async def test_of_sessions_that_are_on_the_host(make_rig: Any) -> None:
    rig = await make_rig(max_resident=16)
    keys = [await rig.open() for _ in range(30)]
    for number, key in enumerate(keys):
        await rig.step(key, X + number)
    for number in (0, 3, 29):
        restored = (await restore(rig, await snapshot(rig, keys[number]))).session
        begun = rig.fold(X + number)[:, -1]
        answer = await rig.step(restored, X)
        assert (rig.array_of(answer.outputs[0]) == rig.fold(X, begun)[:, -1]).all()
