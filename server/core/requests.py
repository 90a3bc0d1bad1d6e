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

    import numpy as np
    from numpy.typing import NDArray

    from server.core.queue_ledger import Place
    from server.core.session import Session

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"


class Stepped(NamedTuple):
    """A step was committed as the session's `step`-th, or only looked at after `step` of them.

    Arrays are `(batch_size, …)`. Outputs hold every timestep of the request; `states`, by name,
    are there only if the request asked for them.
    """

    outputs: Arrays
    step: int
    states: Arrays | None = None


class States(NamedTuple):
    """The session's states and constants by name, `(batch_size, *shape)` each, after `step` steps;
    whether they are the initial ones of a session that has not begun.
    """

    states: Arrays
    step: int
    fresh: bool


class Done(NamedTuple):
    """The session was reset, set or closed after `step` steps."""

    step: int


class Framed(NamedTuple):
    """What became of a frame. Outputs are `(count, …)`, zeros where a session has an error; `steps`
    `(count,)`, the committed steps of each session; `errors` by position.
    """

    outputs: Arrays
    steps: NDArray[np.int64]
    errors: Mapping[int, RequestError]


Result: TypeAlias = Stepped | States | Done | Framed | RequestError


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
    nbytes: int = 0  # of what it carries


@dataclass(slots=True, eq=False, kw_only=True)
class Step(Request):
    """Run the model on `inputs`, `(batch_size, …)` each, and advance the state.

    Only steps with equal `shapes` share a batch: it tells which inputs there are and every
    dimension that is neither the batch nor (in a model that may be cut) time. A long request may
    run in several pieces; the answer is that of the whole.

    `index`: it is to be the session's step of that number, from 1, and runs once however often it
    is asked for; 0 says nothing. `acknowledged`: the sender has the answers up to that step's.
    `begins_with` tells a first step, beside its inputs, from another one.
    `peek`: the session stays as it is.
    `priority`: the level where it queues, 0 for the default; `timeout_s`: how long it may wait, 0:
    not said. Both count only where the model says how its requests queue.
    """

    inputs: Arrays
    timesteps: int = 1
    shapes: Hashable = ()
    return_state: bool = False
    index: int = 0
    acknowledged: int = 0
    begins_with: Hashable = ()
    peek: bool = False
    priority: int = 0
    timeout_s: float = 0.0

    # progress, kept by the scheduler
    position: int = 0  # timesteps that have run
    rows: tuple[int, ...] = ()  # where the state after those stands, not committed yet
    working_rows: int = 0  # how many rows it may hold between its pieces; 0: has not begun
    pieces: list[Arrays] = field(default_factory=list)  # outputs of those timesteps
    waited_s: float = 0.0  # before its first piece
    alone: bool = False  # runs without company, because a batch with it has failed
    stepped: Stepped | None = None  # committed: the answer only waits for the states
    place: Place | None = None  # in the queue, where the model has one


@dataclass(slots=True, eq=False, kw_only=True)
class Read(Request):
    """Give the states."""


@dataclass(slots=True, eq=False, kw_only=True)
class Write(Request):
    """Replace the states by the given ones, `(batch_size, *shape)` each, or the initial ones.

    `initial`: those given are the initial ones, beside constants that are the session's own.
    `step`: from now on the session has made so many; None: as many as before. `keep`: they are in
    place already, leave them there. `id`: it is done once, however many copies come, and only after
    `after` steps; 0 says nothing.
    """

    states: Arrays | None = None
    initial: bool = False
    step: int | None = None
    keep: bool = False
    id: int = 0
    after: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class Share(Request):
    """Let `target`, a new session of the same model and as many rows, have the state as well.

    `count_on`: and its number of steps.
    """

    target: Session
    count_on: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Touch(Request):
    """Do nothing, when its turn comes."""


@dataclass(slots=True, eq=False, kw_only=True)
class Close(Request):
    """End the session once everything before has run."""

    end: bool = True
