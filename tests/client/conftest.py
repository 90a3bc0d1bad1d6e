"""A SessionService in memory, and both clients behind one synchronous face."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

import rnnserve
from rnnserve.v1 import session_pb2_grpc as pb_grpc
from tests.client.session_server import Fake


@pytest.fixture
def fake():
    """A fake server on a port of its own, `fake.target`."""
    fake = Fake()
    fake.gate.set()
    server = grpc.server(ThreadPoolExecutor(32, thread_name_prefix="fake-server"))
    pb_grpc.add_SessionServiceServicer_to_server(fake, server)
    fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    fake.gate.set()
    server.stop(None).wait()


class Blocking:
    """An object of `rnnserve.aio` whose coroutines are run to their end at once."""

    def __init__(self, target, runner):
        self._target = target
        self._runner = runner

    def __getattr__(self, name):
        value = getattr(self._target, name)
        return value if not callable(value) else lambda *a, **k: self._wrapped(value(*a, **k))

    def __repr__(self):
        return repr(self._target)

    def __enter__(self):
        return self._wrapped(self._target.__aenter__())

    def __exit__(self, *error):
        return self._runner.run(self._target.__aexit__(*error))

    def _wrapped(self, value):
        if inspect.iscoroutine(value):
            return self._wrapped(self._runner.run(value))
        if isinstance(value, rnnserve.aio.Stream):
            return BlockingStream(value, self._runner)
        ours = isinstance(value, (rnnserve.aio.Client, rnnserve.aio.Session))
        return Blocking(value, self._runner) if ours else value


class BlockingStream:
    """A stream of `rnnserve.aio`, iterated step by step."""

    def __init__(self, stream, runner):
        self._stream = stream
        self._runner = runner

    def __iter__(self):
        return self

    def __next__(self):
        output = self._runner.run(self._following())
        if output is None:
            raise StopIteration
        return output

    async def _following(self):
        return await anext(self._stream, None)

    def close(self):
        self._runner.run(self._stream.aclose())


async def _connect_aio(*arguments, **options):
    return rnnserve.aio.connect(*arguments, **options)


def _client_threads():
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith("fake-server") and "_poll_wrapper" not in thread.name
    }


@pytest.fixture(params=["sync", "aio"])
def connect(request):
    """`connect(target, …)` of either client. Afterwards no thread and no task may be left."""
    clients = []
    before = _client_threads()
    with asyncio.Runner() as runner:

        def connect(*arguments, **options):
            if request.param == "sync":
                client = rnnserve.connect(*arguments, **options)
            else:
                client = Blocking(runner.run(_connect_aio(*arguments, **options)), runner)
            clients.append(client)
            return client

        yield connect
        for client in clients:
            client.close()
        assert not asyncio.all_tasks(runner.get_loop())
    deadline = time.monotonic() + 5
    while (left := _client_threads() - before) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not left


@pytest.fixture
def client(fake, connect):
    return connect(fake.target, timeout_s=10)
