"""A web site on loopback that fails now and then, by count and not by chance."""

from __future__ import annotations

import threading
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

#: What every page says.
TEXT = "Welcome"
#: Which answers of a page are failures: of every so many, so many at the end.
_FAILURES = {"/shop": (9, 1), "/api": (7, 1), "/search": (12, 3)}
_SLOW_S = {"/slow": 0.75}


class LocalSite:
    """Serves any path on a free port of 127.0.0.1, from a thread."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._closing = threading.Event()
        site = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *_args: object) -> None:
                """Keep the terminal for the demonstration."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def heal(self) -> None:
        """Fail no more."""
        self._healed.set()

    def answer(self, page: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        with self._lock:
            asked = self._asked[page.path]
            self._asked[page.path] += 1
        self._closing.wait(_SLOW_S.get(page.path, 0))
        every, failures = _FAILURES.get(page.path, (1, 0))
        down = asked % every >= every - failures and not self._healed.is_set()
        body = ("Out of order" if down else TEXT).encode()
        try:
            page.send_response(HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.OK)
            page.send_header("Content-Length", str(len(body)))
            page.end_headers()
            page.wfile.write(body)
        except OSError:
            # The worker that asked was killed.
            page.close_connection = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
