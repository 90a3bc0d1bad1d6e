"""What is thrown at the server: the same again for the same seed, of every kind, and of a size that
the server takes.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from fuzz import inference, messages, mutation
from fuzz.reference import read
from fuzz.worker import IDS, UNARY
from server.stubs.inference import grpc_service_pb2 as pb

LARGEST = 4 * 2**20  # grpcio's own limit


def spoiled(seed: int) -> pb.ModelInferRequest:
    rng = Random(seed)
    return inference.spoiled(rng, inference.right(rng, IDS))


def test_the_same_seed_the_same_requests() -> None:
    again = [spoiled(seed).SerializeToString(deterministic=True) for seed in range(50)]
    assert again == [spoiled(seed).SerializeToString(deterministic=True) for seed in range(50)]
    assert len(set(again)) > 40


def test_right_ones_can_be_read() -> None:
    rng, seen = Random(1), set()
    for _ in range(300):
        asked = read(inference.right(rng, IDS))
        seen.add((asked.key.model, asked.start, asked.end))
    assert len(seen) == 8


def test_none_is_too_large() -> None:
    assert max(spoiled(seed).ByteSize() for seed in range(3000)) < LARGEST


@pytest.mark.parametrize("spoil", inference.SPOILS, ids=lambda spoil: spoil.__name__)
def test_each_mistake_changes_the_request(spoil: Any) -> None:
    for seed in range(30):
        rng = Random(seed)
        request = inference.right(rng, IDS)
        before = pb.ModelInferRequest.FromString(request.SerializeToString())
        spoil(rng, request)
        if request != before:
            return
    pytest.fail("nothing was spoiled")


@pytest.mark.parametrize(("path", "method"), UNARY, ids=lambda each: str(each)[-30:])
def test_messages_fill_every_field_now_and_then(path: str, method: Any) -> None:
    made = [messages.message(Random(seed), method.input_type) for seed in range(60)]
    filled = {field.name for message in made for field, _ in message.ListFields()}
    assert filled == {field.name for field in method.input_type.fields}
    assert max(message.ByteSize() for message in made) < LARGEST


def test_damage_is_some_that_can_be_read_and_some_that_cannot() -> None:
    outcomes = set()
    for seed in range(200):
        rng = Random(seed)
        right = inference.right(rng, IDS).SerializeToString()
        damaged = mutation.mutated(rng, right)
        try:
            outcomes.add(pb.ModelInferRequest.FromString(damaged) != right)
        except DecodeError:
            outcomes.add(None)
    assert outcomes == {True, None}


@pytest.mark.parametrize("change", mutation.CHANGES)
def test_damage_to_nothing(change: Any) -> None:
    assert len(change(Random(1), b"")) < 20
