"""How the end of a handler is judged: outcome and error text, by stop reason."""

from __future__ import annotations

import asyncio
import logging

import pytest

from quiv_dist.core.codec import decode_result, encode_arguments
from quiv_dist.core.spec import JobSpec
from quiv_dist.core.stop import StopEvent
from quiv_dist.exceptions import ConfigurationError, JobCancelledError
from quiv_dist.models import StopReason
from quiv_dist.worker.execution import ERROR_TEXT_LIMIT, Execution, error_text, judge
from quiv_dist.worker.registry import HandlerRegistry

BOOM = ValueError("boom")
UNWOUND = JobCancelledError("given up")
LOGGER = logging.getLogger("test.judgement")


def stopped(reason: StopReason | None = None, *, seen: bool = False) -> StopEvent:
    stop = StopEvent()
    if reason is not None:
        stop.set(reason)
    if seen:
        assert stop.is_set()
    return stop


def test_without_a_stop_the_handler_alone_decides() -> None:
    assert judge(stopped(), None, None) == ("completed", "")
    assert judge(stopped(), BOOM, None) == ("failed", "boom")
    # As in quiv: a handler that raises this without having been asked to stop has failed.
    assert judge(stopped(), UNWOUND, None) == ("failed", "given up")
    assert judge(stopped(), asyncio.CancelledError(), None) == ("failed", "CancelledError()")
    assert judge(stopped(), SystemExit(3), None) == ("failed", "SystemExit(3)")


@pytest.mark.parametrize("reason", [StopReason.CANCEL, StopReason.REPLACE])
@pytest.mark.parametrize("seen", [False, True])
def test_cancel_and_replace_end_cancelled_whatever_the_handler_did(
    reason: StopReason, seen: bool
) -> None:
    stop = stopped(reason, seen=seen)
    assert judge(stop, None, None) == ("cancelled", "")
    assert judge(stop, UNWOUND, None) == ("cancelled", "")
    assert judge(stop, BOOM, None) == ("cancelled", "boom")


def test_a_timeout_ends_cancelled_with_the_limit_leading() -> None:
    stop = stopped(StopReason.TIMEOUT)
    text = "Job exceeded timeout of 1.5s"
    assert judge(stop, None, 1500) == ("cancelled", text)
    assert judge(stop, UNWOUND, 1500) == ("cancelled", text)
    assert judge(stop, BOOM, 1500) == ("cancelled", f"{text} (handler raised: boom)")


def test_a_handler_that_never_looked_has_finished_at_shutdown() -> None:
    assert judge(stopped(StopReason.SHUTDOWN), None, None) == ("completed", "")
    assert judge(stopped(StopReason.SHUTDOWN), BOOM, None) == ("failed", "boom")


@pytest.mark.parametrize("error", [None, BOOM, UNWOUND, asyncio.CancelledError()])
def test_a_handler_that_looked_is_handed_back_at_shutdown(error: BaseException | None) -> None:
    assert judge(stopped(StopReason.SHUTDOWN, seen=True), error, None) == ("handback", "")


@pytest.mark.parametrize("error", [UNWOUND, asyncio.CancelledError()])
def test_a_handler_that_was_unwound_is_handed_back_at_shutdown(error: BaseException) -> None:
    assert judge(stopped(StopReason.SHUTDOWN), error, None) == ("handback", "")


@pytest.mark.parametrize("error", [None, BOOM])
def test_nothing_is_claimed_for_a_lost_lease(error: BaseException | None) -> None:
    assert judge(stopped(StopReason.LEASE_LOST), error, None) == ("handback", "")


def test_an_event_that_was_cleared_is_no_stop() -> None:
    stop = stopped(StopReason.CANCEL)
    stop.clear()
    assert judge(stop, None, None) == ("completed", "")


# --- error texts -------------------------------------------------------------


def test_an_error_text_is_the_exceptions_own_or_names_its_class() -> None:
    assert error_text(BOOM) == "boom"
    assert not error_text(ValueError())
    assert error_text(KeyboardInterrupt()) == "KeyboardInterrupt()"


def test_an_exception_without_readable_text_is_named() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert error_text(MuteError()) == "MuteError (its text could not be read: RuntimeError)"


def test_an_error_text_can_be_sent_and_is_bounded() -> None:
    assert error_text(OSError("no \udcff file, é")) == "no \\udcff file, é"
    text = error_text(ValueError("x" * (ERROR_TEXT_LIMIT + 5)))
    assert text == "x" * ERROR_TEXT_LIMIT + "… (5 characters left out)"


# --- results -----------------------------------------------------------------


def execution(**spec: object) -> Execution:
    handler = HandlerRegistry().add(print)
    return Execution(
        job_id="job",
        task_name="task",
        handler=handler,
        args_bytes=encode_arguments((), {}),
        spec=JobSpec(**spec),  # type: ignore[arg-type]
        stop=StopEvent(),
        progress=print,
    )


def test_a_return_value_is_kept_only_where_results_are_stored() -> None:
    assert not execution().end(LOGGER, 42, None).result
    assert decode_result(execution(store_result=True).end(LOGGER, (1,), None).result) == (1,)


def test_no_result_of_a_job_that_did_not_complete_is_stored() -> None:
    job = execution(store_result=True)
    job.stop.set(StopReason.CANCEL)
    assert not job.end(LOGGER, 42, None).result


def test_a_result_that_cannot_be_stored_fails_the_job_naming_its_type(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = execution(store_result=True).end(LOGGER, object(), None)
    assert ended.outcome == "failed"
    assert "object" in ended.error
    assert "result cannot be stored" in caplog.text


def test_a_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    execution().end(LOGGER, None, BOOM)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is BOOM


def test_an_asked_for_stop_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = execution()
    job.stop.set(StopReason.CANCEL)
    job.end(LOGGER, None, UNWOUND)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith("cancel")


# --- the spec ----------------------------------------------------------------


def test_a_spec_comes_back_and_defaults_cost_a_byte() -> None:
    spec = JobSpec(executor="isolated", timeout_ms=5, store_result=True)
    assert JobSpec.decode(spec.encode()) == spec
    assert len(JobSpec().encode()) == 1
    assert len(JobSpec(timeout_ms=5).encode()) == len(b"\x92\xa4auto\x05")
    assert JobSpec.decode(JobSpec().encode()) is JobSpec.decode(JobSpec().encode())


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\xa1x", b"\x91\xa1\xff", b"\x80"])
def test_a_malformed_spec_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match="malformed job spec"):
        JobSpec.decode(data)
