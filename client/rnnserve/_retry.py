"""When a call is made again: pauses and deadlines of its attempts. Values in, values out; time is
an argument.

An answer that has not come says nothing of whether the request has. All calls may be repeated: a
step by its number, a session's beginning by the id and the token that the client has chosen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnnserve.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnserve.errors import RnnserveError

# What a call ends with when no answer has come. Everything else is an answer.
LOST = (Unavailable, DeadlineExceeded)


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client repeats what got no answer, within the `timeout_s` of the call.

    An attempt waits `attempt_s` seconds, the next twice as long, and so on: work that takes long
    gets through in the end. Pauses between attempts grow from `first_pause_s` to `longest_pause_s`.
    """

    attempt_s: float = 2.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 1.0

    def __post_init__(self) -> None:
        if not (self.attempt_s > 0 and 0 < self.first_pause_s <= self.longest_pause_s):
            raise ValueError(
                "expected attempt_s > 0 and 0 < first_pause_s <= longest_pause_s, given "
                f"{self.attempt_s}, {self.first_pause_s} and {self.longest_pause_s}"
            )


RETRIES = Retries()

_GAP_PATIENCE_S = 5.0
_GAP_PAUSE_S = 0.01


class Backoff:
    """Pauses in seconds, each twice the one before, less up to half of it by chance: clients that
    have lost the same server do not all come back at once.
    """

    def __init__(
        self, retries: Retries = RETRIES, chance: Callable[[], float] = random.random
    ) -> None:
        self._retries = retries
        self._chance = chance
        self._next_s = retries.first_pause_s

    def next(self) -> float:
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._retries.longest_pause_s)
        return pause_s * (1 - self._chance() / 2)

    def reset(self) -> None:
        """Something went well: the next pause is short again."""
        self._next_s = self._retries.first_pause_s


class Attempts:
    """The attempts of one call, which may take `timeout_s` in all; None: as long as they like.

    Without `retries` there is one, which has all the time. Times are in seconds of one clock.
    """

    __slots__ = ("_attempt_s", "_backoff", "_end", "_retries")

    def __init__(self, retries: Retries | None, timeout_s: float | None, now: float) -> None:
        self._retries = retries
        self._end = None if timeout_s is None else now + timeout_s
        self._attempt_s = retries.attempt_s if retries is not None else 0.0
        self._backoff: Backoff | None = None

    def timeout(self, now: float) -> float | None:
        """For the attempt that begins now. It gets all that is left where the next one could not
        have as long as this one.
        """
        left = None if self._end is None else max(self._end - now, 0.0)
        if self._retries is None or (left is not None and left < 2 * self._attempt_s):
            return left
        return self._attempt_s

    def pause(self, now: float) -> float | None:
        """Seconds until the next attempt, after one that got no answer; None: that was the last."""
        if self._retries is None:
            return None
        if self._backoff is None:
            self._backoff = Backoff(self._retries)
        pause_s = self._backoff.next()
        self._attempt_s *= 2
        return None if self._end is not None and now + pause_s >= self._end else pause_s


class Mending:
    """When a stream is started again.

    An answer counts as lost when none has come for as long as an attempt has; that time doubles
    whenever it is over and stays so, that steps which take long get through in the end. A server
    that cannot be reached is tried for `patience_s`; None: as long as it takes.
    """

    def __init__(self, retries: Retries | None, patience_s: float | None) -> None:
        self._retries = retries
        self._patience_s = patience_s
        self._limit_s = retries.attempt_s if retries is not None else 0.0
        self._backoff = Backoff(retries or RETRIES)
        self._heard = -1  # messages at the last break
        self._answered = -1  # steps
        self._lost_at = 0.0  # of the first break since a message
        self._seen = -1  # messages when `overdue` was asked
        self._since: float | None = None

    def pause(self, error: RnnserveError, now: float, received: int, answered: int) -> float | None:
        """Seconds until another call, after one that ended with `error`; None: no other.

        `received` counts the server's messages: it can be reached. `answered` counts steps: a
        server that breaks off over and over at the same step is given more and more time.
        """
        if self._retries is None or not isinstance(error, Unavailable):
            return None
        if received != self._heard:
            self._heard = received
            self._lost_at = now
        if answered != self._answered:
            self._answered = answered
            self._backoff.reset()
        pause_s = self._backoff.next()
        late = self._patience_s is not None and now + pause_s - self._lost_at >= self._patience_s
        return None if late else pause_s

    def overdue(self, now: float, received: int, waiting: bool) -> bool:
        """To be asked now and then: whether the call should end, because what has been waited for
        all the time does not come.
        """
        if not waiting or received != self._seen or self._since is None:
            self._seen = received
            self._since = now if waiting else None
        elif now - self._since >= self._limit_s:
            self._limit_s *= 2
            self._since = None
            return True
        return False


class Gap:
    """How long a step waits for those before it, which a stream has sent: as long as they come, and
    then `_GAP_PATIENCE_S` more, within the call's `timeout_s`.
    """

    def __init__(self, timeout_s: float | None, now: float) -> None:
        self._end = None if timeout_s is None else now + timeout_s
        self._expected = 0
        self._since = now

    def pause(self, expected_step: int, now: float) -> float | None:
        """Seconds until the next try, after a StepGap; None: that was the last."""
        if expected_step != self._expected:
            self._expected = expected_step
            self._since = now
        if now - self._since >= _GAP_PATIENCE_S or self.left_s(now) == 0:
            return None
        return _GAP_PAUSE_S

    def left_s(self, now: float) -> float | None:
        return None if self._end is None else max(self._end - now, 0.0)
