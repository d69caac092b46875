"""Following a log: whatever is cut off, trimmed or replaced, each event once or reported lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from quiv_dist.events.cursor import START, EventId, LogCursor, Lost, Verdict, parse_id
from quiv_dist.events.log import LogState
from quiv_dist.store.records import LogEntry

KINDS = ("a", "b", "c", "d")
FOLLOWED = ("a", "b", "c")
PAGE = 3


@dataclass
class Log:
    """What the store keeps: entries, and the newest id of each kind beside them."""

    incarnation: str = "one"
    entries: list[LogEntry] = field(default_factory=list)
    newest: dict[str, str] = field(default_factory=dict)
    ids: count[int] = field(default_factory=lambda: count(1))

    def add(self, kind: str) -> LogEntry:
        entry = LogEntry(f"{next(self.ids)}-1", kind, self.newest.get(kind, ""), b"")
        self.entries.append(entry)
        self.newest[kind] = entry.id
        return entry

    def state(self) -> LogState:
        return LogState(self.incarnation, dict(self.newest))

    def after(self, last: str) -> list[LogEntry]:
        return [entry for entry in self.entries if parse_id(entry.id) > parse_id(last)][:PAGE]


class Reader:
    """A subscriber without I/O: the cursor, and what it gave."""

    def __init__(self, log: Log, kinds: tuple[str, ...] = FOLLOWED) -> None:
        self.log = log
        self.cursor = LogCursor()
        self.cursor.observe(log.state())
        for kind in kinds:
            self.cursor.begin(kind, log.state())
        self.given: list[str] = []
        self.lost: list[Lost] = []

    def hear(self, entry: LogEntry) -> Verdict:
        verdict = self.cursor.live(
            entry.kind, parse_id(entry.id), parse_id(entry.prev), self.log.incarnation
        )
        if verdict is Verdict.TAKE:
            self.given.append(entry.id)
        elif verdict is Verdict.READ_LOG:
            self.catch_up()
        return verdict

    def catch_up(self) -> None:
        self.lost += self.cursor.observe(self.log.state())
        while self.read_page():
            pass

    def read_page(self) -> bool:
        gap = self.cursor.gap
        if gap is None:
            return False
        page = self.log.after(gap.read_after())
        for item in self.cursor.read(page, more=len(page) == PAGE):
            if isinstance(item, Lost):
                self.lost.append(item)
            else:
                self.given.append(item.id)
        return True


def test_events_in_chain_are_taken_and_repeated_ones_skipped() -> None:
    log = Log()
    reader = Reader(log)
    first, second = log.add("a"), log.add("b")
    assert reader.hear(first) is Verdict.TAKE
    assert reader.hear(second) is Verdict.TAKE
    assert reader.hear(first) is Verdict.SKIP
    assert reader.hear(log.add("d")) is Verdict.SKIP
    assert reader.cursor.position == second.id


def test_an_event_whose_predecessor_never_came_is_read_from_the_log_behind_it() -> None:
    log = Log()
    reader = Reader(log)
    reader.hear(log.add("a"))
    log.add("a")
    assert reader.hear(log.add("a")) is Verdict.READ_LOG
    assert reader.given == ["1-1", "2-1", "3-1"]
    assert reader.lost == []


def test_a_kind_begins_at_its_moment_and_replays_nothing() -> None:
    log = Log()
    log.add("a")
    reader = Reader(log, ("b",))
    log.add("a")
    reader.cursor.begin("a", log.state())
    log.add("a")
    log.add("b")
    reader.catch_up()
    assert reader.given == ["3-1", "4-1"]


def test_trimming_what_nobody_follows_is_no_loss() -> None:
    log = Log()
    reader = Reader(log)
    for _ in range(5):
        log.add("d")
    del log.entries[:4]
    log.add("a")
    reader.catch_up()
    assert reader.given == ["6-1"]
    assert reader.lost == []


def test_a_trimmed_event_is_reported_before_what_follows_it() -> None:
    log = Log()
    log.add("b")
    reader = Reader(log)
    for kind in ("a", "b", "d", "a"):
        log.add(kind)
    del log.entries[:3]
    reader.catch_up()
    assert reader.given == ["5-1"]
    assert reader.lost == [Lost("1-1", "4-1")]


def test_a_loss_begins_where_the_last_reading_ended() -> None:
    log = Log()
    reader = Reader(log)
    log.add("a")
    log.add("a")
    reader.catch_up()
    log.add("b")
    log.add("d")
    del log.entries[:3]
    reader.catch_up()
    assert reader.lost == [Lost("2-1", "4-1")]


def test_a_log_trimmed_to_nothing_is_one_loss() -> None:
    log = Log()
    log.add("a")
    reader = Reader(log)
    log.add("a")
    log.add("b")
    log.entries.clear()
    reader.catch_up()
    assert reader.lost == [Lost("1-1", None)]
    assert reader.hear(log.add("b")) is Verdict.TAKE
    assert reader.hear(log.add("a")) is Verdict.TAKE


def test_what_is_trimmed_while_pages_are_read_is_reported() -> None:
    log = Log()
    reader = Reader(log)
    for _ in range(10):
        log.add("a")
    reader.lost += reader.cursor.observe(log.state())
    assert reader.read_page()
    del log.entries[:6]
    while reader.read_page():
        pass
    assert reader.given == ["1-1", "2-1", "3-1", "7-1", "8-1", "9-1", "10-1"]
    assert reader.lost == [Lost("3-1", "7-1")]


def test_another_log_is_read_from_its_beginning() -> None:
    log = Log()
    reader = Reader(log)
    reader.hear(log.add("a"))
    log.incarnation, log.newest = "two", {}
    log.entries.clear()
    log.add("a")
    log.add("b")
    reader.catch_up()
    assert reader.lost == [Lost(None, "2-1")]
    assert reader.given == ["1-1", "2-1", "3-1"]


def test_an_empty_new_log_is_reported_at_once_and_once() -> None:
    log = Log()
    reader = Reader(log)
    reader.hear(log.add("a"))
    log.incarnation, log.newest = "two", {}
    log.entries.clear()
    reader.catch_up()
    reader.catch_up()
    assert reader.lost == [Lost(None, None)]
    assert reader.hear(log.add("a")) is Verdict.TAKE


def test_a_late_message_of_the_former_log_is_ignored() -> None:
    log = Log()
    reader = Reader(log)
    stale = log.add("a")
    log.incarnation, log.newest = "two", {}
    log.entries.clear()
    reader.catch_up()
    verdict = reader.cursor.live("a", parse_id(stale.id), START, "one")
    assert verdict is Verdict.SKIP


def test_while_the_namespace_is_missing_nothing_changes() -> None:
    log = Log()
    reader = Reader(log)
    reader.hear(log.add("a"))
    assert reader.cursor.observe(LogState("", {})) == []
    assert not reader.cursor.replaced(LogState("", {}))
    assert reader.hear(log.add("a")) is Verdict.TAKE


def test_a_server_that_lost_its_newest_writes_is_reported() -> None:
    log = Log()
    reader = Reader(log)
    reader.hear(log.add("a"))
    kept = log.state()
    reader.hear(log.add("a"))
    reader.hear(log.add("b"))
    log.newest = dict(kept.newest)
    del log.entries[1:]
    assert reader.cursor.replaced(log.state())
    reader.catch_up()
    assert reader.lost == [Lost("3-1", "1-1")]
    reader.hear(log.add("a"))
    reader.hear(log.add("b"))
    assert reader.given == ["1-1", "2-1", "3-1", "4-1", "5-1"]
    assert len(reader.lost) == 1


def test_lost_writes_are_reported_also_when_new_ones_have_followed() -> None:
    log = Log()
    reader = Reader(log)
    reader.hear(log.add("a"))
    reader.hear(log.add("a"))
    log.newest = {"a": "1-1"}
    del log.entries[1:]
    assert reader.hear(log.add("a")) is Verdict.READ_LOG
    assert reader.given == ["1-1", "2-1", "3-1"]
    assert reader.lost == [Lost("2-1", "3-1")]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("heard"), st.sampled_from(KINDS)),
        st.tuples(st.just("missed"), st.sampled_from(KINDS)),
        st.tuples(st.just("trim"), st.integers(1, 6)),
        st.tuples(st.just("catch up"), st.just(0)),
        st.tuples(st.just("open gap"), st.just(0)),
        st.tuples(st.just("read page"), st.just(0)),
    ),
    max_size=60,
)


@given(actions)
@settings(max_examples=400, deadline=None)
def test_each_event_is_given_once_in_order_or_lies_in_a_reported_loss(
    steps: list[tuple[str, object]],
) -> None:
    log = Log()
    reader = Reader(log)
    stored: list[LogEntry] = []
    trimmed: set[str] = set()
    for what, detail in steps:
        if what in {"heard", "missed"}:
            stored.append(log.add(str(detail)))
            # As in the feed, live messages wait while a gap is being filled.
            if what == "heard" and reader.cursor.gap is None:
                reader.hear(stored[-1])
        elif what == "trim":
            assert isinstance(detail, int)
            trimmed |= {entry.id for entry in log.entries[:detail]}
            del log.entries[:detail]
        elif what == "catch up":
            reader.catch_up()
        elif what == "open gap":
            reader.lost += reader.cursor.observe(log.state())
        else:
            reader.read_page()
    reader.catch_up()  # ends an open gap
    reader.catch_up()

    due = [entry.id for entry in stored if entry.kind in FOLLOWED]
    given = [parse_id(event_id) for event_id in reader.given]
    assert len(set(given)) == len(given)
    for kind in FOLLOWED:
        of_kind = [parse_id(e.id) for e in stored if e.kind == kind]
        in_order = [event_id for event_id in given if event_id in of_kind]
        assert in_order == sorted(in_order)
    missing = [event_id for event_id in due if event_id not in set(reader.given)]
    assert set(missing) <= trimmed
    assert all(any(_within(parse_id(m), lost) for lost in reader.lost) for m in missing)
    assert bool(missing) == bool(reader.lost)


def _within(event_id: EventId, lost: Lost) -> bool:
    low = START if lost.from_id is None else parse_id(lost.from_id)
    return low < event_id and (lost.to_id is None or event_id < parse_id(lost.to_id))
