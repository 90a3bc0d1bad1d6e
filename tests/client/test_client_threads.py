"""One synchronous client, many threads with a session each."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import rnnserve


def test_threads_share_a_client(fake):
    with rnnserve.connect(fake.target) as client:

        def run(number):
            item = np.float32([number, 0, 0])
            with client.session("sums") as session:
                stepped = [float(session.step(item)[0]) for _ in range(10)]
                streamed = [float(output[0]) for output in session.stream([item] * 10)]
            return stepped + streamed

        with ThreadPoolExecutor(8) as pool:
            for number, totals in enumerate(pool.map(run, range(24))):
                assert totals == [number * step for step in range(1, 21)]
    assert not fake.sessions
