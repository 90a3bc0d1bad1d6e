"""The steps of the synchronous client's session: one by one, or as a stream."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from rnnserve import _channel
from rnnserve._calls import check_window
from rnnserve._feed import Feed
from rnnserve._retry import Gap
from rnnserve._session import SessionBase
from rnnserve._stream import Streaming
from rnnserve.errors import StepGap

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from rnnserve._calls import Call
    from rnnserve._codec import Output
    from rnnserve._start import Beginning
    from rnnserve.client import Client
    from rnnserve.v1 import session_pb2 as pb

T = TypeVar("T")


class Stepping(SessionBase):
    """What moves a session on."""

    def __init__(self, client: Client, start: Beginning, timeout_s: float | None) -> None:
        super().__init__(start, timeout_s)
        self._client = client
        self._turn = threading.Lock()  # held while a step of no stream's is under way
        self._streaming: Streaming | None = None

    def step(
        self,
        x: object = None,
        /,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        peek: bool = False,
        timeout_s: float | None = None,
        **inputs: object,
    ) -> Output:
        """Runs one request of one or more timesteps; the server keeps the state after it.

        `x` is an array, or anything numpy makes one of; for a model with several inputs a dict
        from names to arrays. Inputs may also be given by name, `step(x, mask=mask)`: `x` is then
        the one that is left. Those that have a default may be left out.

        Arrays are converted to the input's dtype where nothing is lost but precision. Axes of size
        1 may be left out, and are left out of the answer, too; all inputs of a step leave out the
        same. For an input `(batch, time, *features)` and an output `(batch, time, *out)`:

        | batch_size | x | answer | with return_sequences |
        |---|---|---|---|
        | any | `(batch, time, *features)` | `(batch, *out)` | `(batch, time, *out)` |
        | 1 | `(time, *features)` | `(*out)` | `(time, *out)` |
        | 1 | `(*features)`, one frame | `(*out)` | `(*out)` |
        | > 1 | `(batch, *features)`, a frame each | `(batch, *out)` | `(batch, *out)` |

        The tensors of a model without a batch axis have none here either.

        A call that returns has moved the session on by exactly one step, however often it had to be
        sent. One that raises has not, except that after `Unavailable`, `DeadlineExceeded` or an
        interruption nobody here knows: the step is in doubt, and the next one settles that.

        - Called again with the same inputs, it is the same step: if the server has run it, this is
          its answer. (The same inputs meant as another step come after that.)
        - With other inputs, it takes the place of the step in doubt if that was not run. If it
          was, this call raises `StepConflict` without running anything; then the step in doubt
          counts, and calling once more goes on after it.
        - `reset_states` and `set_states` settle it, too: what comes after them is a new step.

        Args:
            return_sequences: the outputs of every timestep instead of the last one's.
            return_state: the states after this request, too.
            peek: compute, and leave the session as it is.
            timeout_s: for this call, from when the session's steps before it are over; None: the
                session's.

        Returns:
            An array; for a model of several outputs, or none, a dict from names to arrays; with
            `return_state` a pair of that and a dict from state names to `(batch_size, …)` arrays.

        Raises:
            TypeError, ValueError: an input does not fit the model. Nothing was sent.
            RnnserveError: see `rnnserve.errors`.
        """
        request, asked = self._step_request(x, inputs, return_sequences, return_state)
        timeout_s = timeout_s or self._timeout_s
        if peek:
            request.peek = True
            answer = self._client._call("Step", request, timeout_s)
        else:
            answer = self._numbered(request, timeout_s)
        return self._codec.read_step(answer, asked)

    def stream(
        self,
        items: Iterable[object],
        *,
        return_sequences: bool = False,
        window: int = _channel.DEFAULT_WINDOW,
        timeout_s: float | None = None,
    ) -> Generator[Output, None, None]:
        """One step per item, one output per step, in order, over one stream.

        Items are taken and sent ahead while earlier steps run, but never more than `window` whose
        outputs you have not yet consumed (asked for the next). With `window=1` an item is taken
        only once you have dealt with the output before it. The items are taken on another thread.

        An error is raised in the place of the output that it prevented: what the server refused,
        what `items` raised, an item that does not fit the model. It ends the stream.

        Leaving the loop early takes no further item and cancels nothing: steps already sent run,
        and leaving waits for their answers, at most the session's `timeout_s`. After that
        `step_count` counts them, and the session goes on from there. The same holds after an
        error. Other calls on the session while a stream is under way run somewhere between its
        steps. Another stream can begin when this one is over.

        Where the connection breaks, or an answer is lost, the stream goes on over another one, with
        no step lost and none run twice. It gives up with `Unavailable` when the server could not be
        reached for the session's `timeout_s`. Steps without an answer are then in doubt, as in
        `step`: items that you give again, from that of the missing output on, are the same steps.

        Args:
            timeout_s: for the whole stream; None: no limit.

        >>> for probabilities in session.stream(frames):
        ...     print(probabilities.argmax())
        """
        check_window(window)
        steps = self._steps(return_sequences)
        feed = Feed(steps, iter(items), window, self._turn)
        streaming = Streaming(self._client, feed, steps, timeout_s, self._timeout_s)
        return self._outputs(streaming)

    def _numbered(self, request: pb.StepRequest, timeout_s: float | None) -> pb.StepResponse:
        """Runs the step once, when those before it are over."""
        gap: Gap | None = None
        while True:
            try:
                return self._in_turn(request, timeout_s)
            except StepGap as error:
                gap = gap or Gap(timeout_s, monotonic())
                pause_s = gap.pause(error.expected_step, monotonic())
                if self._numbers.astray or pause_s is None or not self._let_stream_go_on(pause_s):
                    raise
            timeout_s = gap.left_s(monotonic())

    def _in_turn(self, request: pb.StepRequest, timeout_s: float | None) -> pb.StepResponse:
        numbers = self._numbers
        with self._turn:
            if numbers.astray:
                self._make(self._count_call())
            streaming = numbers.streaming
            number = numbers.take(request)
            try:
                answer: pb.StepResponse = self._client._call("Step", request, timeout_s)
            except BaseException as error:
                numbers.failed(number, error, streaming)
                raise
            numbers.answered(number, answer.step)
            return answer

    def _let_stream_go_on(self, pause_s: float) -> bool:
        """Gives the stream time to send what comes first; False: it has nothing."""
        if self._streaming is not None and self._streaming.is_read_here():
            return self._streaming.catch_up()
        self._client._pause(pause_s)
        return True

    def _outputs(self, streaming: Streaming) -> Generator[Output, None, None]:
        numbers = self._numbers
        with self._turn:
            numbers.begin_stream()
            try:
                if numbers.astray:
                    self._make(self._count_call())
            except BaseException:
                numbers.end_stream()
                raise
        self._streaming = streaming
        try:
            yield from streaming.outputs()
        finally:
            self._streaming = None
            numbers.end_stream()

    def _make(self, call: Call[T], timeout_s: float | None = None) -> T:
        return self._client._make(call, timeout_s or self._timeout_s)
