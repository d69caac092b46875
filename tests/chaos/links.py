"""The network between one process and the server, which a test can cut."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class Link:
    """Forwards connections to a server. Needs no privileges, unlike a firewall or a namespace.

    Cut, it is a network split: connections stay open, nothing passes, and what was on its way
    arrives when it heals, however late. Cut one way, requests pass and replies do not. Dropped, it
    is a reset: connections end.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._to_server = asyncio.Event()
        self._to_process = asyncio.Event()
        self.heal()
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._starting = asyncio.ensure_future(self._start())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"

    def cut(self, *, replies_only: bool = False) -> None:
        self._to_process.clear()
        if not replies_only:
            self._to_server.clear()

    def heal(self) -> None:
        self._losing = False
        self._to_process.set()
        self._to_server.set()

    def lose_replies(self) -> None:
        """Throw away what the server sends until healed; for connections that then end."""
        self._losing = True

    def drop(self) -> None:
        """End every connection at once, as a reset does."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        await self._starting
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._starting
        assert self._server is not None
        self._server.close()
        self.drop()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._socket)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._to_server.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._writers.update(pair)
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, self._to_server)),
            asyncio.create_task(self._pump(far_reader, writer, self._to_process)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in pair:
            end.transport.abort()
            self._writers.discard(end)
        await asyncio.gather(*pumps, return_exceptions=True)
        self._pumps.difference_update(pumps)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._losing and way is self._to_process:
                    continue
                await way.wait()
                writer.write(data)
                await writer.drain()
