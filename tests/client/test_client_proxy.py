"""Both clients through a proxy that cuts and delays connections at random: every step runs once."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

import rnnserve
from rnnserve import Retries

ONE = np.float32([1, 0, 0])  # adds [1, 2]
QUICK = Retries(attempt_s=0.3, first_pause_s=0.005, longest_pause_s=0.05)


class Proxy:
    """Forwards bytes to `port`, until a connection is cut."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = []
        self._refusing = False
        self.pause = threading.Event()  # nothing is forwarded unless it is set
        self.pause.set()
        self.connections = 0
        threading.Thread(target=self._accept, name="fake-server-proxy", daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._refusing:
                    _reset(near)
                    continue
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._pump, args=(source, target), name="fake-server-pump"
                    ).start()

    def _pump(self, source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                self.pause.wait()
                target.sendall(data)
        for end in (source, target):
            _reset(end)

    def cut(self):
        """Ends all connections, whatever is on the way."""
        sockets, self._sockets = self._sockets, []
        for end in sockets:
            _reset(end)

    @contextmanager
    def away(self):
        """Nobody can connect meanwhile."""
        self._refusing = True
        self.cut()
        yield
        self._refusing = False

    def close(self):
        self.pause.set()
        self._listener.close()
        self.cut()


def _reset(end):
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
    end.close()


@pytest.fixture
def proxy(fake):
    proxy = Proxy(int(fake.target.rpartition(":")[2]))
    yield proxy
    proxy.close()


@contextmanager
def mischief(proxy, seed=1):
    """Cuts, refuses and delays until the body is done."""
    chance = random.Random(seed)
    over = threading.Event()

    def run():
        while not over.wait(chance.uniform(0.02, 0.15)):
            what = chance.choice(["cut", "away", "pause"])
            if what == "cut":
                proxy.cut()
            elif what == "away":
                with proxy.away():
                    over.wait(chance.uniform(0.0, 0.1))
            else:
                proxy.pause.clear()
                over.wait(chance.choice([0.02, 0.5]))
                proxy.pause.set()

    thread = threading.Thread(target=run, name="fake-server-mischief")
    thread.start()
    yield
    over.set()
    thread.join()


def test_steps(fake, proxy, connect):
    client = connect(proxy.target, timeout_s=30, retries=QUICK)
    with client.session("sums") as session, mischief(proxy, seed=1):
        end = time.monotonic() + 2
        total = 0
        while time.monotonic() < end:
            total += 1
            assert session.step(ONE).tolist() == [total, 2 * total]
        assert fake.sessions[session.id].step == session.step_count == total
    assert proxy.connections > 2
    assert total > 20


def test_streams(fake, proxy, connect):
    client = connect(proxy.target, timeout_s=30, retries=QUICK)
    end = time.monotonic() + 2
    total = 0

    def items():
        while time.monotonic() < end:
            yield ONE

    with client.session("sums") as session, mischief(proxy, seed=1):
        while time.monotonic() < end:
            for output in session.stream(items()):
                total += 1
                assert output.tolist() == [total, 2 * total]
                if total % 50 == 0:
                    break
            states = session.get_states()
            total = session.step_count  # what was under way was committed, too
            assert states["total"].tolist() == [[total, 2 * total]]
        assert fake.sessions[session.id].step == total
    assert proxy.connections > 2
    assert total > 40


def test_a_server_that_comes_back(fake, proxy, connect):
    client = connect(proxy.target, timeout_s=10, retries=QUICK)
    with client.session("sums") as session:
        session.step(ONE)
        with proxy.away():
            with pytest.raises(rnnserve.Unavailable):
                session.step(ONE, timeout_s=0.3)
            threading.Timer(0.3, lambda: setattr(proxy, "_refusing", False)).start()
            started = time.monotonic()
            assert session.step(ONE).tolist() == [2, 4]
            assert time.monotonic() - started < 3
