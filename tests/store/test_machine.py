"""The invariants of the design over random histories. QUIV_TEST_LONG=1 makes them many and long."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.machine import StoreMachine

LONG = bool(os.environ.get("QUIV_TEST_LONG"))


@pytest.mark.timeout(3600 if LONG else 120)
def test_the_invariants_hold_over_any_history(redis_url: str) -> None:
    class Machine(StoreMachine):
        url = redis_url

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=1500 if LONG else 40,
            stateful_step_count=150 if LONG else 60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        ),
    )
