"""What is known of a session, as its user sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from rnnserve._numbers import Numbers

if TYPE_CHECKING:
    from rnnserve.specs import Signature, TensorSpec
    from rnnserve.v1 import session_pb2 as pb


class Phase(Enum):
    NEW = "not open"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a session once the server has answered."""

    key: pb.SessionKey = field(repr=False)  # a secret
    signature: Signature
    batch_size: int
    idle_ttl_s: float


class Facts:
    """What a session says of itself."""

    def __init__(self) -> None:
        self._phase = Phase.NEW
        self._opened: Opened | None = None
        self._numbers = Numbers()

    @property
    def id(self) -> str:
        """Names the session; with `token` it can be resumed from elsewhere."""
        return self._known.key.session_id

    @property
    def token(self) -> str:
        """Proves that the session is yours: keep it secret."""
        return self._known.key.token

    @property
    def model(self) -> str:
        return self._known.signature.model

    @property
    def version(self) -> str:
        return self._known.signature.version

    @property
    def digest(self) -> str:
        """SHA-256 over the model's files, in hexadecimal."""
        return self._known.signature.digest

    @property
    def batch_size(self) -> int:
        """Rows of the session, fixed for its life."""
        return self._known.batch_size

    @property
    def idle_ttl_s(self) -> float:
        """Seconds without a request after which the server ends the session."""
        return self._known.idle_ttl_s

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._known.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._known.signature.outputs

    @property
    def states_spec(self) -> tuple[TensorSpec, ...]:
        return self._known.signature.states

    @property
    def constants_spec(self) -> tuple[TensorSpec, ...]:
        """What was given once, when the session was opened."""
        return self._known.signature.constants

    @property
    def step_count(self) -> int:
        """Requests committed, as far as the answers have told."""
        return self._numbers.committed

    @property
    def closed(self) -> bool:
        """Whether this object has closed the session."""
        return self._phase is Phase.CLOSED

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._opened is None:
            return f"<{name} {self._phase.value}>"
        return (
            f"<{name} {self.id!r} of {self.model!r} version {self.version}, "
            f"batch_size {self.batch_size}, step {self.step_count}, {self._phase.value}>"
        )

    @property
    def _known(self) -> Opened:
        if self._opened is None:
            raise RuntimeError("the session is not open: enter it with `with`, or call open()")
        return self._opened
