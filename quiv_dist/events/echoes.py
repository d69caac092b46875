"""A process hears its own events once: at the call that causes them, not again as echoes.

A call of the facade tells this process's listeners of its event itself, on the caller's thread.
The same event comes back from the server, carrying the call's id. It may come before the reply
to the call, and the reply may be lost although the change was stored; so while a call is in
flight its echoes are held, and only what the caller has dispatched is dropped. If the call
fails, its echoes are the only word of what it did, and are delivered.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quiv_dist.core.wire import Envelope
    from quiv_dist.models import Event

# Calls whose echoes are still expected. An echo is late by milliseconds, or by an outage of the
# server, during which few calls succeed; one that is never to come (nobody subscribes to its
# kind) is forgotten when this many calls have followed.
MOST_RECENT_CALLS = 10_000


class Echo:
    """One call in flight: what its caller dispatched, and what came back."""

    def __init__(self) -> None:
        self._heard: Counter[str] = Counter()
        self._held: list[Envelope] = []

    def heard(self, kind: Event) -> None:
        """Record that the caller dispatches an event of this kind: one echo of it is dropped."""
        self._heard[kind.value] += 1

    def hold(self, envelope: Envelope) -> None:
        """Keep an event of this call until its end."""
        self._held.append(envelope)

    def drops(self, envelope: Envelope) -> bool:
        """Tell whether this event was heard, which it is once."""
        if not self._heard[envelope.type]:
            return False
        self._heard[envelope.type] -= 1
        return True

    def remaining(self) -> list[Envelope]:
        """Return the held events that were not heard, in the order of their coming."""
        return [envelope for envelope in self._held if not self.drops(envelope)]

    def expected(self) -> Counter[str]:
        """Return how many echoes of each kind have still to come."""
        return +self._heard


class EchoFilter:
    """Holds and drops the echoes of this process's calls. Used on one event loop only.

    Args:
        deliver: Takes what was held and is nobody's echo, when its call has ended.
    """

    def __init__(self, deliver: Callable[[Envelope], object]) -> None:
        self._deliver = deliver
        self._in_flight: dict[str, Echo] = {}
        self._recent: OrderedDict[str, Counter[str]] = OrderedDict()

    @contextmanager
    def call(self, call_id: str) -> Iterator[Echo]:
        """Hold the echoes of a call while it is in flight, which is while this is open."""
        echo = self._in_flight[call_id] = Echo()
        try:
            yield echo
        finally:
            del self._in_flight[call_id]
            remaining = echo.remaining()
            self._remember(call_id, echo.expected())
            for envelope in remaining:
                self._deliver(envelope)

    def keeps(self, envelope: Envelope) -> bool:
        """Tell whether an event is held or dropped here, and so not to be delivered now."""
        if not envelope.call:
            return False
        echo = self._in_flight.get(envelope.call)
        if echo is not None:
            echo.hold(envelope)
            return True
        expected = self._recent.get(envelope.call)
        if expected is None or not expected[envelope.type]:
            return False
        expected[envelope.type] -= 1
        if not +expected:
            del self._recent[envelope.call]
        return True

    def _remember(self, call_id: str, expected: Counter[str]) -> None:
        if not expected:
            return
        self._recent[call_id] = expected
        while len(self._recent) > MOST_RECENT_CALLS:
            self._recent.popitem(last=False)
