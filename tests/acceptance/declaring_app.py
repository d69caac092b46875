"""An application that declares a schedule of its own."""

from __future__ import annotations

from quiv_dist import AsyncQuiv
from tests.acceptance import fleet_app

quiv = AsyncQuiv()
quiv.task(interval=1.0, task_id="declared")(fleet_app.tick)
