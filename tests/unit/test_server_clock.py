"""The estimate of the server's time, from replies that took long and short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quiv_dist import clock
from quiv_dist.clock import STEP_MS, ServerClock


class Wire:
    """A server whose clock is `offset_ms` ahead of the monotonic one, and the way there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.offset_ms = 5_000_000
        self.clock = ServerClock()
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)

    def ask(self, there_s: float, back_s: float) -> float:
        sent_s = self.now_s
        self.now_s += there_s
        server_ms = int(self.now_s * 1000 + self.offset_ms)
        self.now_s += back_s
        return self.clock.observe(server_ms, sent_s)

    @property
    def error_ms(self) -> float:
        return self.clock.now_ms() - (self.now_s * 1000 + self.offset_ms)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def test_a_reply_that_was_long_on_its_way_moves_nothing(wire: Wire) -> None:
    wire.ask(0.001, 0.001)
    assert wire.ask(0.001, 4.9) == 0
    assert wire.ask(4.9, 0.001) == 0
    assert abs(wire.error_ms) < 5


def test_a_first_reply_that_was_late_is_mended_by_the_next(wire: Wire) -> None:
    wire.ask(0.001, 4.0)
    assert wire.error_ms < -3_000
    assert wire.ask(0.001, 0.001) == 0, "nothing moved: more is known"
    assert abs(wire.error_ms) < 5


@pytest.mark.parametrize("step_ms", [-3_600_000, -3_000, 3_000, 3_600_000])
def test_a_step_of_the_servers_clock_is_seen_and_followed(wire: Wire, step_ms: int) -> None:
    wire.ask(0.001, 0.001)
    wire.offset_ms += step_ms
    moved = wire.ask(0.001, 0.001)
    assert abs(moved) > STEP_MS
    assert abs(moved - step_ms) < 5
    assert abs(wire.error_ms) < 5


@given(trips=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=30))
def test_a_steady_clock_is_never_outrun(trips: list[tuple[float, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wire = Wire(patch)
        for there_s, back_s in trips:
            assert wire.ask(there_s, back_s) == 0
            assert wire.error_ms <= 0.01  # what floating point adds
