"""One delivery of a job: calling its handler, and judging how that ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from quiv_dist.clock import monotonic_s
from quiv_dist.core.codec import encode_result
from quiv_dist.exceptions import ConfigurationError, JobCancelledError
from quiv_dist.models import StopReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from quiv_dist.core.parameters import Arguments
    from quiv_dist.core.spec import Executor, JobSpec
    from quiv_dist.core.stop import StopEvent
    from quiv_dist.worker.registry import Handler

Outcome = Literal["completed", "failed", "cancelled", "handback"]

# A longer text would be stored with the job and sent in its events.
ERROR_TEXT_LIMIT = 8192

_ASKED_TO_END = frozenset({StopReason.CANCEL, StopReason.TIMEOUT, StopReason.REPLACE})


class Ended(NamedTuple):
    """How a delivery ended. ``result`` is empty unless the job's results are stored."""

    outcome: Outcome
    duration_ms: float
    error: str = ""
    result: bytes = b""


@dataclass(slots=True, eq=False)
class Execution:
    """A claimed job with what is needed to run it."""

    job_id: str
    task_name: str
    handler: Handler
    args_bytes: bytes
    spec: JobSpec
    stop: StopEvent
    progress: Callable[..., None]
    # Set when the handler is about to be called; None while waiting for a thread.
    started_s: float | None = field(default=None, init=False)

    def arguments(self) -> Arguments:
        """Return what the handler is called with: its own arguments and what it is injected.

        Raises:
            ConfigurationError: If the bytes are malformed, or do not fit the annotations.
        """
        args, kwargs = self.handler.decoder.decode(self.args_bytes)
        injectable = self.handler.injectable
        if injectable:
            if "job_id" in injectable:
                kwargs["job_id"] = self.job_id
            if "stop_event" in injectable:
                kwargs["stop_event"] = self.stop
            if "progress_hook" in injectable:
                kwargs["progress_hook"] = self.progress
        return args, kwargs

    def kind(self) -> Executor:
        """Return where the handler runs: the job says it, else the handler, else its kind.

        Plain functions always run in threads: on the loop they would stop every other job.
        """
        if not self.handler.is_async:
            return "thread"
        asked = self.handler.executor if self.spec.executor == "auto" else self.spec.executor
        return "async" if asked in {"auto", "async"} else "isolated"

    def begin(self, logger: Logger) -> None:
        """Note the start, on the monotonic clock.

        Raises:
            JobCancelledError: If the job was asked to stop while it waited for a thread. Its
                handler is not called, so a job that is handed back has not begun.
        """
        self.started_s = monotonic_s()
        if self.stop.peek():
            raise JobCancelledError(f"Job {self.job_id} was asked to stop before it started")
        with suppress(Exception):  # a log that fails must not fail the job
            logger.info("'%s' (Job %s) started", self.task_name, self.job_id)

    def end(self, logger: Logger, value: object, error: BaseException | None) -> Ended:
        """Judge the end of the handler, log it, and encode its result if that is wanted.

        Args:
            logger: Is told about the end, with the traceback of a failure.
            value: What the handler returned.
            error: What it raised instead.
        """
        started_s = self.started_s
        duration_ms = 0.0 if started_s is None else (monotonic_s() - started_s) * 1000
        outcome, text = judge(self.stop, error, self.spec.timeout_ms)
        result = b""
        if outcome == "completed" and self.spec.store_result:
            try:
                result = encode_result(value)
            except ConfigurationError as exc:
                outcome, text, error = "failed", error_text(exc), exc
        with suppress(Exception):  # a log that fails must not keep the end from being reported
            self._log(logger, outcome, duration_ms, error)
        return Ended(outcome, duration_ms, text, result)

    def _log(
        self, logger: Logger, outcome: Outcome, duration_ms: float, error: BaseException | None
    ) -> None:
        subject = (self.task_name, self.job_id)
        # An asked-for stop may unwind the handler; anything else is worth a traceback.
        if error is not None and not (_unwinds(error) and self.stop.peek()):
            logger.error(
                "'%s' (Job %s) raised after %.3f s: %s",
                *subject,
                duration_ms / 1000,
                error_text(error),
                exc_info=error,
            )
        elif outcome == "completed":
            logger.info("'%s' (Job %s) completed in %.3f s", *subject, duration_ms / 1000)
        else:
            reason = self.stop.reason
            logger.info(
                "'%s' (Job %s) stopped after %.3f s: %s",
                *subject,
                duration_ms / 1000,
                reason.value if reason else outcome,
            )


def judge(
    stop: StopEvent, error: BaseException | None, timeout_ms: int | None
) -> tuple[Outcome, str]:
    """Return outcome and error text of a handler that returned, or raised ``error``.

    ======================= ========= ================================ =========
    stop reason             looked at the handler                      outcome
    ======================= ========= ================================ =========
    none                              returned                         completed
    none                              raised                           failed
    cancel, timeout,                  returned or raised               cancelled
    replace
    shutdown                no        returned                         completed
    shutdown                no        raised anything but these two    failed
    shutdown                          raised JobCancelledError or      handback
                                      asyncio.CancelledError
    shutdown                yes       returned or raised               handback
    lease_lost                        returned or raised               handback
    ======================= ========= ================================ =========

    A lost lease's outcome is nobody's any more; the store refuses it.
    """
    reason = stop.reason
    if reason is None:
        return ("completed", "") if error is None else ("failed", error_text(error))
    if reason in _ASKED_TO_END:
        raised = error is not None and not isinstance(error, JobCancelledError)
        text = error_text(error) if raised else ""
        if reason is StopReason.TIMEOUT:
            text = _timeout_text(timeout_ms, text)
        return "cancelled", text
    if reason is StopReason.SHUTDOWN and not stop.seen:
        if error is None:
            return "completed", ""
        if not _unwinds(error):
            return "failed", error_text(error)
    return "handback", ""


def _unwinds(error: BaseException) -> bool:
    # By name: this module has nothing else to do with asyncio.
    return isinstance(error, JobCancelledError) or type(error).__name__ == "CancelledError"


def _timeout_text(timeout_ms: int | None, raised: str) -> str:
    # The limit leads, so that timed-out jobs can be told from others whatever the handler did.
    text = f"Job exceeded timeout of {(timeout_ms or 0) / 1000}s"
    return f"{text} (handler raised: {raised})" if raised else text


def error_text(error: BaseException | None) -> str:
    """Return the text of an exception as it is stored: never raising, valid UTF-8, bounded.

    Those that are no ``Exception``, such as ``KeyboardInterrupt``, usually have no text of
    their own, so it is their ``repr()``.
    """
    try:
        text = str(error) if isinstance(error, Exception) else repr(error)
    except Exception as exc:  # noqa: BLE001 - application code
        text = f"{type(error).__name__} (its text could not be read: {type(exc).__name__})"
    if not text.isascii():
        # File names with bytes that are no UTF-8 become lone surrogates, which cannot be sent.
        text = text.encode("utf-8", "backslashreplace").decode()
    left_out = len(text) - ERROR_TEXT_LIMIT
    return text if left_out <= 0 else f"{text[:ERROR_TEXT_LIMIT]}… ({left_out} characters left out)"
