"""A subscriber of the product, held against the log itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from quiv_dist.client import AsyncQuiv
from quiv_dist.core.wire import Envelope
from quiv_dist.models import Event, Job, Task

HEARD = (Event.JOB_STARTED, Event.JOB_COMPLETED, Event.JOB_FAILED, Event.JOB_LOST)


class Heard(NamedTuple):
    kind: str
    job: str
    delivery: int


class Subscriber:
    """Listens to job events, and knows what it heard."""

    def __init__(self, client: AsyncQuiv) -> None:
        self.heard: list[Heard] = []
        self.gaps: list[Any] = []
        self._client = client

    async def listen(self) -> None:
        for kind in HEARD:
            await self._client.add_listener(kind, self._note)
        await self._client.add_listener(Event.EVENTS_LOST, self._lost)

    def _note(self, event: Event, task: Task, job: Job) -> None:
        self.heard.append(Heard(event.value, job.id, job.delivery))

    def _lost(self, event: Event, gap: Any) -> None:
        self.gaps.append(gap)

    def hears_all(self, events: list[Envelope]) -> bool:
        return len(self.heard) >= len(_logged(events))

    def violations(self, events: list[Envelope]) -> Iterable[str]:
        """Return what breaks: each event once, in log order (18). Nothing of this log is trimmed,
        so nothing may be lost."""
        logged = _logged(events)
        if self.gaps:
            yield f"EVENTS_LOST, though the log reaches back to its beginning: {self.gaps}"
        if self.heard == logged:
            return
        missing = set(logged) - set(self.heard)
        yield f"heard {len(self.heard)} of {len(logged)} events, {len(missing)} of them never"
        for number, (heard, wanted) in enumerate(zip(self.heard, logged, strict=False)):
            if heard != wanted:
                yield f"event {number} of the log is {wanted}, heard was {heard}"
                return


def _logged(events: list[Envelope]) -> list[Heard]:
    kinds = {kind.value for kind in HEARD}
    return [
        Heard(event.type, event.job.id, event.job.delivery)
        for event in events
        if event.type in kinds and event.job is not None
    ]
