"""Opens a session, says its id and token, and streams until somebody kills it.

python endless_client.py ADDRESS IDLE_TTL_S
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

import rnnserve

address, idle_ttl_s = sys.argv[1], float(sys.argv[2])
with (
    rnnserve.connect(address) as client,
    client.session("vowels", session_id="victim", idle_ttl_s=idle_ttl_s) as session,
):
    frames = (np.full(12, number % 7, np.float32) for number in itertools.count())
    for number, _ in enumerate(session.stream(frames)):
        if number == 100:  # by now it is in the middle of it
            print(session.id, session.token, flush=True)
