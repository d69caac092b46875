"""What tests of the event feed share: producers, a recorder of what is heard, a breakable wire."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from quiv_dist.config import Settings
from quiv_dist.core import ids
from quiv_dist.events.feed import EventFeed
from quiv_dist.models import Event
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import NOW, Definition, Submission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from quiv_dist.core.wire import Envelope

DEADLINE_S = 20.0
QUICK = Settings(command_timeout_s=2.0, connect_timeout_s=2.0, log_check_s=0.2, backoff_most_s=0.2)
# A feed that never looks by itself: what it notices, a message has told it.
NEVER_LOOKS = replace(QUICK, log_check_s=3_600.0)
LOGGER = logging.getLogger("Quiv")


class Heard:
    """The envelopes a feed delivered, and a way to wait for them."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self._came = asyncio.Event()

    def deliver(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        self._came.set()

    async def until(self, found: Callable[[], bool]) -> None:
        """Return when ``found``, which is asked again after each envelope."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not found():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"heard only {self.names()[-20:]}") from None

    async def task(self, task_id: str) -> None:
        """Return when an event of this task was heard."""
        await self.until(lambda: task_id in self.tasks())

    def tasks(self) -> list[str]:
        return [envelope.task.id for envelope in self.envelopes if envelope.task]

    def names(self) -> list[str]:
        """Each envelope as its kind and the task it is about."""
        return [f"{e.type} {e.task.id if e.task else '-'}" for e in self.envelopes]

    def kinds(self) -> list[str]:
        return [envelope.type for envelope in self.envelopes]

    def gaps(self) -> list[tuple[str | None, str | None]]:
        return [(e.gap.from_id, e.gap.to_id) for e in self.envelopes if e.gap]


class Producer:
    """Another process of the namespace, which causes events."""

    def __init__(self, url: str, namespace: str, settings: Settings = QUICK) -> None:
        self.store = Store(url, namespace, settings)
        self.partition = self.store.partition()
        self._runs = count(1)

    async def add_task(self, task_id: str, *, call: str = "") -> None:
        """TASK_ADDED."""
        definition = Definition(
            name="T", handler="m:f", queue="default", priority="normal", trigger=b"x",
            mode="fixed", every_ms=3_600_000, jitter_ms=0, spec=b"", args=b"", max_crashes=3,
            static=b'"id":"%b","task_name":"T"' % task_id.encode(),
        )  # fmt: skip
        reply = await self.partition.put_task(
            task_id, definition, NOW, if_exists="error", read=None,
            incarnation=ids.new_id(), call=call,
        )  # fmt: skip
        assert reply.word == "CREATED"

    async def add_tasks(self, prefix: str, number: int) -> list[str]:
        names = [f"{prefix}{at}" for at in range(number)]
        for name in names:
            await self.add_task(name)
        return names

    async def pause_task(self, task_id: str) -> None:
        """TASK_PAUSED."""
        await self.partition.pause_task(task_id, reason="test", actor="test", call="")

    async def submit(self, number: int, *, call: str = "", snap: bytes = b"") -> list[str]:
        """JOB_SCHEDULED, so many; returns the ids of the runs, which are also their tasks'."""
        submissions = []
        for _ in range(number):
            run = ids.run_id(0, self.store.namespace, "submit", "m:f", "", str(next(self._runs)))
            task = snap or (
                b'{"id":"%b","task_name":"n","status":"running","next_run_at_ms":1}' % run.encode()
            )
            job = ids.job_id(run, 1)
            submissions.append(
                Submission(job, run, "n", "m:f", "default", "normal", b"", b"", 3, task)
            )
        assert all(await self.partition.submit(submissions, call=call))
        return [submission.run_id for submission in submissions]

    async def run_with_progress(self, body: bytes) -> None:
        """JOB_PROGRESS, of a job made for it."""
        await self.submit(1)
        node = ids.new_id()
        await self.partition.register_node(
            node, b'{"id":"%b"}' % node.encode(), worker=True, queues=["default"], handlers=["m:f"]
        )
        _, (job,) = await self.partition.claim(node, slots=1, streams=[("default", "normal")])
        assert await self.partition.progress(node, job.job_id, job.delivery, body)

    async def command(self, *words: object) -> object:
        """Send any command, over the same connections."""
        return await self.store._execute(*words)

    async def trim_log(self, *, keep: int) -> None:
        await self.command("XTRIM", self.store.keys().key("log"), "MAXLEN", "=", keep)


@asynccontextmanager
async def producing(url: str, namespace: str) -> AsyncIterator[Producer]:
    producer = Producer(url, namespace)
    try:
        yield producer
    finally:
        await producer.store.close()


@asynccontextmanager
async def feeding(
    url: str, namespace: str, *kinds: Event, settings: Settings = QUICK, heard: Heard | None = None,
    **options: object,
) -> AsyncIterator[tuple[EventFeed, Heard]]:  # fmt: skip
    """Yield a feed that covers these kinds, and what it delivers."""
    store = Store(url, namespace, settings)
    heard = heard or Heard()
    feed = EventFeed(store, LOGGER, heard.deliver, **options)  # type: ignore[arg-type]
    feed.start()
    try:
        await feed.cover(kinds)
        yield feed, heard
    finally:
        await feed.stop()
        await store.close()


class Wire:
    """A TCP proxy before a server: it can be cut, and it can swallow what subscribers receive."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._subscribed: set[asyncio.StreamWriter] = set()
        # Chunks to a client that hold these bytes are swallowed; all hold b"".
        self._mute: dict[asyncio.StreamWriter, bytes] = {}
        self._swallowed = asyncio.Event()
        self.subscriptions = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def join(self) -> None:
        """Accept connections, on the same port as before a cut."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def mute(self, holding: bytes = b"") -> None:
        """From now on, what subscribers of today are sent, if it holds these bytes, is lost."""
        assert self._subscribed
        self._swallowed.clear()
        self._mute |= dict.fromkeys(self._subscribed, holding)

    async def unmute_after_a_loss(self) -> None:
        """Pass everything on again, when something was lost."""
        async with asyncio.timeout(DEADLINE_S):
            await self._swallowed.wait()
        self._mute.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        far_writer = None
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ends = [
                asyncio.ensure_future(self._pass_on(reader, far_writer, of_client=writer)),
                asyncio.ensure_future(self._pass_on(far_reader, writer, of_client=None)),
            ]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._subscribed.discard(writer)
            for end_writer in (writer, far_writer):
                if end_writer is not None:
                    end_writer.close()

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        of_client: asyncio.StreamWriter | None,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if of_client is not None and b"SUBSCRIBE" in data:
                    self.subscriptions += of_client not in self._subscribed
                    self._subscribed.add(of_client)
                if sink in self._mute and self._mute[sink] in data:
                    self._swallowed.set()
                    continue
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[Wire]:
    wire = Wire(url)
    await wire.join()
    try:
        yield wire
    finally:
        await wire.cut()
