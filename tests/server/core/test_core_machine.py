"""Random clients against a random engine: every session must equal a lone run of its requests.

The machine is in `machine.py` and the files beside it, what must come out in `reference.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Effort
from hypothesis.stateful import run_state_machine_as_test

from server.core import ledger
from tests.server.core.machine_frames import FrameRules
from tests.server.core.machine_sessions import SessionRules

if TYPE_CHECKING:
    from tests.server.core.machine import Machine


@pytest.mark.parametrize("machine", [SessionRules, FrameRules])
def test_random_clients(machine: type[Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_WORKING_BATCHES", 1)  # so that many have to wait outside
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            phases=[Effort.generate],  # shrinking takes minutes; the steps are printed as they are
            report_multiple_bugs=False,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
