"""The public surface: no name comes or goes unnoticed, and quiv's are where quiv has them."""

from __future__ import annotations

import importlib
import inspect

import pytest

import quiv_dist
from quiv_dist import AsyncQuiv, Quiv

EXPORTED = [
    "AsyncQuiv",
    "ConfigurationError",
    "DatabaseInitializationError",
    "Event",
    "EventGap",
    "HandlerHandle",
    "HandlerNotRegisteredError",
    "HandlerRegistrationError",
    "InvalidTimezoneError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotFoundError",
    "JobStatus",
    "LeadershipLostError",
    "MainLoopUnavailableError",
    "Node",
    "Quiv",
    "QuivConfig",
    "QuivError",
    "QuivStats",
    "RedisUnavailableError",
    "RunHandle",
    "SchedulerStoppedError",
    "SchemaVersionError",
    "StopReason",
    "Task",
    "TaskNotActiveError",
    "TaskNotFoundError",
    "TaskRunningError",
    "TaskStatus",
    "Tick",
    "TickOutcome",
    "call_on_main",
    "resolve_timezone",
    "run_on_main",
    "run_subprocess",
]

# The modules of quiv 1.4.0 that an application imports from, and what it finds there.
OF_QUIV = {
    "quiv_dist": """
        Quiv QuivConfig resolve_timezone run_on_main call_on_main run_subprocess QuivError
        ConfigurationError InvalidTimezoneError DatabaseInitializationError
        HandlerRegistrationError HandlerNotRegisteredError TaskNotActiveError TaskNotFoundError
        TaskRunningError JobNotFoundError JobCancelledError SchedulerStoppedError
        MainLoopUnavailableError Event Task TaskStatus Job JobStatus QuivStats
    """,
    "quiv_dist.models": "Event Job JobStatus QuivStats Task TaskStatus",
    "quiv_dist.exceptions": """
        QuivError ConfigurationError InvalidTimezoneError DatabaseInitializationError
        HandlerRegistrationError HandlerNotRegisteredError TaskNotActiveError TaskNotFoundError
        TaskRunningError JobNotFoundError JobCancelledError SchedulerStoppedError
        MainLoopUnavailableError
    """,
    "quiv_dist.config": "QuivConfig resolve_timezone",
    "quiv_dist.context": "call_on_main run_on_main",
    "quiv_dist.subprocesses": "run_subprocess",
}

EVENTS_OF_QUIV = {
    "TASK_ADDED": "task_added", "TASK_REMOVED": "task_removed", "TASK_PAUSED": "task_paused",
    "TASK_RESUMED": "task_resumed", "TASK_UPDATED": "task_updated",
    "JOB_STARTED": "job_started", "JOB_COMPLETED": "job_completed", "JOB_FAILED": "job_failed",
    "JOB_CANCELLED": "job_cancelled", "JOB_RETRYING": "job_retrying",
}  # fmt: skip

# Parameters in order; after "*" keyword-only. Defaults are those of quiv 1.4.0.
SIGNATURES = {
    "add_task": "task_name func interval=None delay=None run_once=False fixed_interval=True"
    " args=None kwargs=None progress_callback=None * run_at=None timeout=None max_retries=0"
    " retry_backoff=30.0 jitter=0.0",
    "remove_task": "task_id",
    "pause_task": "task_id",
    "get_task": "task_id",
    "get_all_tasks": "include_run_once=False status=None limit=None offset=0 task_name=None",
    "get_job": "job_id",
    "get_all_jobs": "status=None task_id=None since=None until=None order_by='started_at'"
    " descending=True limit=None offset=0",
    "cancel_job": "job_id",
    "stats": "",
    "start": "",
    "startup": "",
    "shutdown": "timeout=None",
    "stop": "timeout=None",
    "add_listener": "event callback",
    "remove_listener": "event callback",
    "wait_for_job": "job_id timeout=None",
    "await_job": "job_id timeout=None",
    "wait_for_task": "task_id timeout=None",
    "await_task": "task_id timeout=None",
    "pending_main_loop_work": "",
}


def test_the_public_names() -> None:
    assert sorted(quiv_dist.__all__) == sorted(EXPORTED)
    for name in EXPORTED:
        assert getattr(quiv_dist, name).__name__ == name


@pytest.mark.parametrize("module", OF_QUIV)
def test_names_of_quiv_are_in_the_same_places(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in OF_QUIV[module].split() if not hasattr(found, name)] == []


def test_events_have_the_names_and_strings_of_quiv() -> None:
    assert {name: quiv_dist.Event[name].value for name in EVENTS_OF_QUIV} == EVENTS_OF_QUIV
    assert isinstance(quiv_dist.Event.TASK_ADDED, str)


def _parameters(method: object) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    found = [
        parameter
        for parameter in inspect.signature(method).parameters.values()  # type: ignore[arg-type]
        if parameter.name != "self"
    ]
    keyword_only = [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [p for p in found if p not in keyword_only], keyword_only


def _text(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("face", [Quiv, AsyncQuiv])
def test_methods_keep_the_parameters_of_quiv(face: type, name: str) -> None:
    target = face if hasattr(face, name) else face(redis_url="redis://nowhere")
    positional, keyword_only = _parameters(getattr(target, name))
    before, _, after = SIGNATURES[name].partition("*")
    assert [_text(parameter) for parameter in positional] == before.split()
    assert set(after.split()) <= {_text(parameter) for parameter in keyword_only}


def test_the_constructor_keeps_the_parameters_of_quiv() -> None:
    positional, keyword_only = _parameters(Quiv.__init__)
    assert [_text(parameter) for parameter in positional] == [
        "config=None", "pool_size=10", "history_retention_seconds=86400", "timezone='UTC'",
    ]  # fmt: skip
    assert [parameter.name for parameter in keyword_only] == [
        "logger", "main_loop", "redis_url", "namespace", "roles", "handlers", "app_version",
    ]  # fmt: skip


def test_both_faces_have_the_same_methods() -> None:
    synchronous = Quiv(redis_url="redis://nowhere")
    asynchronous = AsyncQuiv(redis_url="redis://nowhere")
    for name in ("update_task", "resume_task", "run_task_immediately", *SIGNATURES):
        assert callable(getattr(synchronous, name))
        assert inspect.signature(getattr(synchronous, name)).parameters.keys() - {"self"} == (
            inspect.signature(getattr(asynchronous, name)).parameters.keys() - {"self"}
        )
        if name not in {"await_job", "await_task", "pending_main_loop_work"}:
            assert not inspect.iscoroutinefunction(getattr(synchronous, name))
            assert inspect.iscoroutinefunction(getattr(asynchronous, name))
