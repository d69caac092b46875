"""Chapter 3. A failed run is tried again, each time as a new job of the same run."""

from __future__ import annotations

from quiv_dist import JobFailedError, Quiv

attempts: list[int] = []


def flaky() -> str:
    attempts.append(len(attempts) + 1)
    if len(attempts) < 3:
        msg = "not yet"
        raise RuntimeError(msg)
    return "done"


def hopeless() -> None:
    msg = "never"
    raise RuntimeError(msg)


def test_until_it_succeeds(quiv: Quiv) -> None:
    handle = quiv.handler(max_retries=5, retry_backoff=0.01)(flaky)
    quiv.start()
    assert handle.submit().result(timeout=20) == "done"
    jobs = quiv.get_all_jobs(descending=False)
    assert [(job.attempt, job.status) for job in jobs] == [
        (1, "failed"), (2, "failed"), (3, "completed"),
    ]  # fmt: skip
    assert jobs[0].error_message == "not yet"
    assert len({job.run_id for job in jobs}) == 1


def test_or_attempts_run_out(quiv: Quiv) -> None:
    handle = quiv.handler(max_retries=1, retry_backoff=0.01)(hopeless)
    quiv.start()
    try:
        handle.submit().result(timeout=20)
    except JobFailedError as error:
        assert "never" in str(error)  # noqa: PT017 - told as an application would write it
    else:
        raise AssertionError("it cannot have succeeded")
