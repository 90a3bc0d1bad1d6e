"""What these files share. They run in a process of their own (see test_triton_sequences.py): only
there is `tritonclient` imported, whose messages may not meet the server's.
"""

from __future__ import annotations

import itertools
import os
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_S = 30.0
BUSY_S = 1.2
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def address() -> str:
    return os.environ["RNNSERVE_TEST_GRPC"]


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Any]:
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()  # connected: what is sent before that leaves in any order
        yield client


@pytest.fixture
def pending() -> Callable[[], float]:
    """How many requests the server has not answered."""
    return lambda: _metric("rnnserve_pending_requests")


@pytest.fixture
def until_pending(pending: Callable[[], float]) -> Callable[[int], None]:
    """Waits until there are so many."""

    def wait(count: int) -> None:
        give_up_s = time.monotonic() + LIMIT_S
        while (found := pending()) != count:
            assert time.monotonic() < give_up_s, f"{found} pending, not {count}"
            time.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def many_turns(client: Any) -> int:
    """As many as keep the model "slow" busy for about `BUSY_S`."""
    from tests.endtoend.triton_sequences.talk import slow

    def took_s(turns: int) -> float:
        began_s = time.monotonic()
        client.infer(**slow(10**9, "start end", turns))
        return time.monotonic() - began_s

    turns = 1000
    while min(took_s(turns) for _ in range(3)) < BUSY_S / 20:
        turns *= 2
    return int(turns * BUSY_S / min(took_s(turns) for _ in range(3)))


@pytest.fixture
def busy(
    client: Any, new_id: Callable[[], int], many_turns: int, until_pending: Callable[[int], None]
) -> Iterator[Callable[[], Any]]:
    """Makes "slow" busy with a sequence of somebody else; afterwards nothing is left waiting."""
    from tests.endtoend.triton_sequences.talk import Answers, count, slow

    answers = Answers()

    def begin() -> Any:
        client.async_infer(callback=answers.callback, **slow(new_id(), "start end", many_turns))
        until_pending(1)
        return answers

    yield begin
    until_pending(0)
    assert count(answers.next()) == 1


@pytest.fixture
def sessions() -> Callable[[], float]:
    """How many sequences are live."""
    return lambda: _metric("rnnserve_sessions")


def _metric(name: str) -> float:
    """The sum over all models."""
    with urllib.request.urlopen(f"http://{os.environ['RNNSERVE_TEST_HTTP']}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(sessions: Callable[[], float]) -> Iterator[None]:
    """Each test ends what it has begun, and the server keeps nothing else."""
    yield
    give_up_s = time.monotonic() + 3
    while left := sessions():
        assert time.monotonic() < give_up_s, f"{left} sequences are left"
        time.sleep(0.01)


@pytest.fixture
def new_id() -> Callable[[], int]:
    """A number that no other test uses."""
    return lambda: next(_NUMBERS)


@pytest.fixture
def sequence(new_id: Callable[[], int]) -> int:
    return new_id()
