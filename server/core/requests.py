"""What can be asked of a session, and what comes back.

A request carries `answer`, the way back to whoever asked: it is called once, with one of the
results below or with a `RequestError`. The core collects answers and never calls anybody itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from numpy.typing import NDArray

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"


class Stepped(NamedTuple):
    """A step was committed as the session's `step`-th.

    Arrays are `(batch_size, …)`. Outputs hold every timestep of the request; `states`, by name,
    are there only if the request asked for them.
    """

    outputs: Arrays
    step: int
    states: Arrays | None = None


class States(NamedTuple):
    """The session's states by name, `(batch_size, *shape)` each, after `step` steps."""

    states: Arrays
    step: int


class Done(NamedTuple):
    """The session was reset, set or closed after `step` steps."""

    step: int


Result: TypeAlias = Stepped | States | Done | RequestError


def tell_nobody(result: Result) -> None:
    """What a request does whose sender does not wait."""


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """`answer` is called once with the result; by default nobody is told.

    `start`: opens the session, which is closed again if the request fails. `end`: closes the
    session when the request has succeeded.
    """

    answer: Callable[[Result], None] = tell_nobody
    start: bool = False
    end: bool = False
    arrived_s: float = 0.0
    cancelled: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Step(Request):
    """Run the model on `inputs`, `(batch_size, …)` each, and advance the state.

    Only steps with equal `shapes` share a batch: it tells which inputs there are and every
    dimension that is neither the batch nor (in a model that may be cut) time. A long request may
    run in several pieces; the answer is that of the whole.
    """

    inputs: Arrays
    timesteps: int = 1
    shapes: Hashable = ()
    return_state: bool = False

    # progress, kept by the scheduler
    position: int = 0  # timesteps that have run
    rows: tuple[int, ...] = ()  # where the state after those stands, not committed yet
    working_rows: int = 0  # how many rows it may hold between its pieces; 0: has not begun
    pieces: list[Arrays] = field(default_factory=list)  # outputs of those timesteps
    alone: bool = False  # runs without company, because a batch with it has failed
    stepped: Stepped | None = None  # committed: the answer only waits for the states


@dataclass(slots=True, eq=False, kw_only=True)
class Read(Request):
    """Give the states."""


@dataclass(slots=True, eq=False, kw_only=True)
class Write(Request):
    """Replace the states by the given ones, `(batch_size, *shape)` each, or the initial ones.

    `initial`: those given are the initial ones, beside constants that are the session's own.
    """

    states: Arrays | None = None
    initial: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Close(Request):
    """End the session once everything before has run."""

    end: bool = True
