"""``quiv events``: follow what happens in a namespace."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import click
import msgspec

from quiv_dist.cli import logs, options, output
from quiv_dist.cli.connection import target
from quiv_dist.cli.errors import Command
from quiv_dist.core.wire import Envelope, JobWire, to_datetime
from quiv_dist.events.cursor import START, parse_id
from quiv_dist.events.feed import EventFeed
from quiv_dist.events.log import EnvelopeReader, LogReads, LogState
from quiv_dist.models import Event, EventGap
from quiv_dist.store.namespace import Store
from quiv_dist.store.reads import LOG_PAGE

_LOG = logging.getLogger("Quiv")
_KINDS = [kind.value for kind in Event]


def _check_since(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\d{1,19}(-\d{1,19})?", value):
        msg = f"{value!r} is no event id; give one such as 1764000000000-0, or 0 for all there is"
        raise click.BadParameter(msg, ctx, param)
    return value if value is None or "-" in value else f"{value}-0"


@click.command(cls=Command, context_settings=options.SETTINGS)
@click.option(
    "-k",
    "--kind",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    metavar="KIND",
    help="Only events of this kind; may be repeated.",
)
@click.option(
    "--since",
    callback=_check_since,
    metavar="ID",
    help="Begin after this event, as far as the log reaches back; 0 is all there is.",
)
@options.as_json
@options.inspection
def events(*, kinds: tuple[str, ...], since: str | None, as_json: bool, **at: Any) -> None:
    """Follow events until interrupted, across outages of the server.

    What the log no longer has is an events_lost.
    """
    with target(**at) as found:
        logs.set_up("warning", "text")

        async def run() -> None:
            async with found.store() as store:
                follower = Follower(store, [Event(kind) for kind in kinds or _KINDS])
                async for envelope in follower.follow(since):
                    _print(envelope, as_json=as_json)

        try:
            asyncio.run(run())
        except KeyboardInterrupt:
            click.echo(err=True)
        except BrokenPipeError:
            # Whoever read this has read enough; the interpreter flushes once more at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Follower:
    """The events of some kinds: those of the log after an id, then those that come."""

    def __init__(self, store: Store, kinds: list[Event]) -> None:
        self._store = store
        self._kinds = kinds
        self._names = {kind.value for kind in kinds}
        self._coming: asyncio.Queue[Envelope] = asyncio.Queue()

    async def follow(self, since: str | None) -> AsyncIterator[Envelope]:
        """Yield events for ever.

        The feed is covered before the log is read, so that nothing falls between the two; what
        comes by both ways is given once.
        """
        feed = EventFeed(self._store, _LOG, self._coming.put_nowait, backlog=self._coming.qsize)
        feed.start()
        try:
            await feed.cover(self._kinds)
            reached: dict[int, tuple[int, int]] = {}
            for number in range(self._store.partitions if since is not None else 0):
                reached[number] = parse_id(since or "")
                async for envelope in self._past(number, since or ""):
                    if envelope.id:
                        reached[number] = parse_id(envelope.id)
                    yield envelope
            while True:
                envelope = await self._coming.get()
                seen = reached.get(envelope.partition)
                if not (envelope.id and seen and parse_id(envelope.id) <= seen):
                    yield envelope
        finally:
            await feed.stop()

    async def _past(self, number: int, since: str) -> AsyncIterator[Envelope]:
        """Yield what a log has after an id, and where it was trimmed after it, that it was.

        Each entry names the one of its kind before it, and the newest of each kind is kept
        beside the log: what neither leads to is gone. Nothing was asked for before ``0-0``.
        """
        reads = LogReads.over(self._store.reads(number))
        reader = EnvelopeReader(_LOG)
        state = await reads.state()
        last = dict.fromkeys(self._names, parse_id(since))
        after, told = since, parse_id(since) == START
        while True:
            page = await reads.log_after(after)
            for entry in page:
                after = entry.id
                envelope = reader.decode(entry.kind, entry.data)
                if envelope is None or entry.kind not in self._names:
                    continue
                if not told and parse_id(entry.prev) > last[entry.kind]:
                    told = True
                    yield _lost(state, number, since, page[0].id, envelope.at_ms)
                last[entry.kind] = parse_id(entry.id)
                yield envelope
            if len(page) < LOG_PAGE:
                break
        newest = {kind: parse_id(event_id) for kind, event_id in state.newest.items()}
        if not told and any(newest.get(kind, START) > at for kind, at in last.items()):
            yield _lost(state, number, since, None, self._store.clock.now_ms())


def _lost(state: LogState, partition: int, since: str, to_id: str | None, at_ms: int) -> Envelope:
    return Envelope(
        id="", prev="", type=Event.EVENTS_LOST.value, at_ms=at_ms, partition=partition,
        log=state.incarnation, gap=EventGap(from_id=since, to_id=to_id),
    )  # fmt: skip


def _print(envelope: Envelope, *, as_json: bool) -> None:
    if as_json:
        line = msgspec.json.encode(_without_blanks(envelope)).decode()
    else:
        at = to_datetime(envelope.at_ms)
        when = at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
        line = f"{when}  {envelope.type:<14}  {'  '.join(_words(envelope))}".rstrip()
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _without_blanks(envelope: Envelope) -> dict[str, Any]:
    """Return the parts that an event has; which those are depends on its kind."""
    parts = msgspec.structs.asdict(envelope)
    return {name: value for name, value in parts.items() if value is not None and value != ""}


def _words(envelope: Envelope) -> Iterator[str]:
    job, task, tick, node = envelope.job, envelope.task, envelope.tick, envelope.node
    if task is not None:
        yield task.task_name
    if job is not None:
        yield from _of_job(job)
    elif task is not None:
        yield f"task {task.id}"
    if tick is not None:
        count = f"{tick.count} ticks, last " if tick.count > 1 else ""
        why = f": {tick.reason}" if tick.reason else ""
        yield f"{count}{output.moment(to_datetime(tick.last_at_ms))}{why}"
    if node is not None:
        yield f"{','.join(node.roles) or 'client'} {node.host} pid {node.pid} node {node.id}"
    if envelope.epoch is not None:
        yield f"epoch {envelope.epoch}"
    if envelope.gap is not None:
        gap = envelope.gap
        yield f"from {gap.from_id or 'the beginning'} to {gap.to_id or 'the end'}"
    if envelope.progress is not None:
        yield msgspec.json.encode(envelope.progress).decode()
    if envelope.id:
        yield f"[{envelope.id}]"


def _of_job(job: JobWire) -> Iterator[str]:
    yield f"job {job.id}"
    if job.attempt > 1:
        yield f"attempt {job.attempt}"
    if job.delivery > 1:
        yield f"delivery {job.delivery}"
    if job.duration_seconds is not None:
        yield f"took {output.span(job.duration_seconds)}"
    if job.error_message:
        yield output.cell(job.error_message)
