"""Where a subscriber is in the event log of one partition, and what it has missed. No I/O.

Every event carries the id of the event of its kind before it, and the store keeps the newest id
of each kind beside the log. So for each kind followed, the last id handled is all that is needed
to tell exactly:

=============================  ===========================================================
seen                           means
=============================  ===========================================================
id <= last                     handled before
prev == last                   the next one
prev > last, live              missed: read the log from the last id handled
prev > last, in the log        what lies between was trimmed: lost
newest > last, log read        trimmed to the last one: lost
prev < last, newest < last     the server lost its newest writes, and what we had seen of them
another incarnation            another log: start at its beginning
=============================  ===========================================================

A trimmed stretch in which nothing of a followed kind happened is thus no loss, on every version
of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from quiv_dist.events.log import LogState
    from quiv_dist.store.records import LogEntry

EventId = tuple[int, int]

# The id before every event.
START: EventId = (0, 0)


def parse_id(text: str) -> EventId:
    """Return a stream id as its time (ms) and sequence number; the empty text is ``START``.

    Raises:
        ValueError: The text is not a stream id.
    """
    if not text:
        return START
    ms, _, sequence = text.partition("-")
    return int(ms), int(sequence)


def format_id(event_id: EventId) -> str:
    """Return the id as the server writes it."""
    return f"{event_id[0]}-{event_id[1]}"


class Lost(NamedTuple):
    """Events that cannot be read any more: from the last id read to the id that goes on.

    ``from_id`` is ``None`` when the log itself was lost, ``to_id`` when the log is empty.
    """

    from_id: str | None
    to_id: str | None


class Verdict(Enum):
    """What to do with a live event."""

    TAKE = "take"
    SKIP = "skip"
    READ_LOG = "read log"


@dataclass
class Gap:
    """A stretch of the log that is being read, page by page.

    Attributes:
        start: The id after which reading began.
        cursor: The last id read.
        target: The id that reading must reach; the page that does may go beyond it.
        newest: For each kind that was behind, the id it must reach.
        first: The first id found.
        latest: The first id of the newest page that was not empty.
        told: Losses before this id were reported.
    """

    start: EventId
    cursor: EventId
    target: EventId
    newest: dict[str, EventId]
    first: EventId | None = None
    latest: EventId | None = None
    told: EventId = START

    def read_after(self) -> str:
        """Return the id after which to read the next page."""
        return format_id(self.cursor)


class LogCursor:
    """The last event handled of each kind followed, and the gap that is being filled."""

    def __init__(self) -> None:
        self.incarnation = ""
        self.gap: Gap | None = None
        self._former = ""
        self._last: dict[str, EventId] = {}
        # Everything followed up to this id was handled, as a look at the whole log has shown.
        self._confirmed = START
        self._owes_new_log = False

    @property
    def position(self) -> str:
        """The highest id handled."""
        return format_id(max(self._confirmed, *self._last.values(), START))

    def follows(self, kind: str) -> bool:
        """Tell whether this kind is followed."""
        return kind in self._last

    def begin(self, kind: str, state: LogState) -> None:
        """Follow a kind from the moment at which ``state`` was read."""
        self._last[kind] = parse_id(state.newest.get(kind, ""))

    def forget(self, kind: str) -> None:
        """Follow a kind no more."""
        self._last.pop(kind, None)

    # Live -------------------------------------------------------------------------------------

    def live(self, kind: str, event_id: EventId, prev: EventId, incarnation: str) -> Verdict:
        """Judge a published event, and count it as handled if it is to be taken."""
        last = self._last.get(kind)
        if last is None or incarnation == self._former:
            return Verdict.SKIP
        if incarnation != self.incarnation:
            return Verdict.READ_LOG
        if event_id <= last:
            return Verdict.SKIP
        if prev != last:
            return Verdict.READ_LOG
        self._last[kind] = event_id
        return Verdict.TAKE

    # Comparing with the log -------------------------------------------------------------------

    def replaced(self, state: LogState) -> bool:
        """Tell whether the log is another one, or has lost what was handled."""
        if not state.incarnation:
            return False
        return state.incarnation != self.incarnation or bool(self._undone(_newest(state)))

    def behind(self, state: LogState) -> dict[str, EventId]:
        """Return the newest id of each kind that was not handled up to it."""
        newest = _newest(state)
        return {
            kind: newest[kind]
            for kind, last in self._last.items()
            if newest.get(kind, START) > last
        }

    def is_short_of(self, ids: Mapping[str, EventId]) -> bool:
        """Tell whether some kind was not handled up to the id given for it."""
        return any(self._last.get(kind, event_id) < event_id for kind, event_id in ids.items())

    def confirm(self, state: LogState) -> None:
        """Record that nothing was behind: an old gap never needs reading from before this."""
        self._confirmed = max(self._confirmed, *_newest(state).values(), START)

    def observe(self, state: LogState) -> list[Lost]:
        """Compare with the log: open a gap if anything was missed; return what is known lost.

        While a gap is being read only another incarnation counts: what else has changed shows
        itself when the reading has ended.
        """
        if not state.incarnation:
            return []
        if state.incarnation != self.incarnation:
            self._change_log(state.incarnation)
        elif self.gap is not None:
            return []
        newest = _newest(state)
        losses = self._take_back(newest)
        behind = self.behind(state)
        if behind:
            start = max(min(self._last[kind] for kind in behind), self._confirmed)
            self.gap = Gap(start, start, max(behind.values()), behind)
        else:
            self.confirm(state)
            if self._owes_new_log:
                self._owes_new_log = False
                losses.append(Lost(None, None))
        return losses

    def _change_log(self, incarnation: str) -> None:
        if self.incarnation:
            self._former = self.incarnation
            self._owes_new_log = bool(self._last)
            self._last = dict.fromkeys(self._last, START)
            self._confirmed = START
        self.incarnation = incarnation
        self.gap = None

    def _undone(self, newest: dict[str, EventId]) -> list[str]:
        return [kind for kind, last in self._last.items() if newest.get(kind, START) < last]

    def _take_back(self, newest: dict[str, EventId]) -> list[Lost]:
        undone = self._undone(newest)
        if not undone:
            return []
        end = max(*newest.values(), START)
        seen = max(self._last[kind] for kind in undone)
        for kind in undone:
            self._last[kind] = newest.get(kind, START)
        self._confirmed = min(self._confirmed, end)
        return [Lost(format_id(seen), None if end == START else format_id(end))]

    # Filling a gap ----------------------------------------------------------------------------

    def read(self, page: Sequence[LogEntry], *, more: bool) -> Iterator[LogEntry | Lost]:
        """Give what is new in a page read after the gap's cursor, and the losses before it.

        Each entry counts as handled when it is given. The gap closes after the last page, the
        one after which there is no ``more``.
        """
        gap = self.gap
        if gap is None:
            return
        asked_after = gap.cursor
        first = parse_id(page[0].id) if page else None
        gap.first = gap.first or first
        gap.latest = first or gap.latest
        if self._owes_new_log:
            self._owes_new_log = False
            gap.told = first or (gap.target[0], gap.target[1] + 1)
            yield Lost(None, page[0].id if page else None)
        for entry in page:
            gap.cursor = parse_id(entry.id)
            last = self._last.get(entry.kind)
            if last is None or gap.cursor <= last:
                continue
            prev = _parse_prev(entry, last)
            missing = max(prev, last)
            if prev != last and missing >= gap.told:
                yield self._trimmed(gap, missing, asked_after, first or gap.cursor)
            self._last[entry.kind] = gap.cursor
            yield entry
        if not more or gap.cursor >= gap.target:
            yield from self._close(gap)

    def _trimmed(self, gap: Gap, missing: EventId, asked_after: EventId, first: EventId) -> Lost:
        """What was trimmed while pages were read lies before this page, else before the first."""
        before_page = missing > asked_after
        begin = asked_after if before_page else gap.start
        end = first if before_page or gap.first is None else gap.first
        gap.told = max(gap.told, end, missing)
        return Lost(format_id(begin), format_id(end))

    def _close(self, gap: Gap) -> Iterator[Lost]:
        lost = START
        for kind, newest in gap.newest.items():
            last = self._last.get(kind)
            if last is not None and last < newest:
                self._last[kind] = newest
                lost = max(lost, newest)
        self._confirmed = max(self._confirmed, gap.target, gap.cursor)
        self.gap = None
        if lost > START and lost >= gap.told:
            goes_on = gap.latest is not None and gap.latest > lost
            yield Lost(
                format_id(gap.start),
                format_id(gap.latest) if goes_on and gap.latest else None,
            )


def _newest(state: LogState) -> dict[str, EventId]:
    return {kind: parse_id(event_id) for kind, event_id in state.newest.items()}


def _parse_prev(entry: LogEntry, last: EventId) -> EventId:
    """An entry whose ``prev`` nobody can read breaks no chain."""
    try:
        return parse_id(entry.prev)
    except ValueError:
        return last
