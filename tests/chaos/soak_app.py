"""The fleet's application with a history of seconds, so that what it keeps soon stops growing."""

from __future__ import annotations

from quiv_dist import AsyncQuiv
from tests.acceptance import fleet_app

RETENTION_S = 5

quiv = AsyncQuiv(
    history_retention_seconds=RETENTION_S,
    handlers=[fleet_app.tick, fleet_app.hold, fleet_app.stubborn, fleet_app.fail_in],
)
