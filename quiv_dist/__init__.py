"""quiv-dist: a distributed scheduler on Redis, with the API of quiv."""

from __future__ import annotations

from quiv_dist.client import AsyncQuiv
from quiv_dist.config import QuivConfig, resolve_timezone
from quiv_dist.context import call_on_main, run_on_main
from quiv_dist.exceptions import (
    ConfigurationError,
    DatabaseInitializationError,
    HandlerNotRegisteredError,
    HandlerRegistrationError,
    InvalidTimezoneError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    LeadershipLostError,
    MainLoopUnavailableError,
    QuivError,
    RedisUnavailableError,
    SchedulerStoppedError,
    SchemaVersionError,
    TaskNotActiveError,
    TaskNotFoundError,
    TaskRunningError,
)
from quiv_dist.facade import Quiv
from quiv_dist.models import (
    Event,
    EventGap,
    Job,
    JobStatus,
    Node,
    QuivStats,
    StopReason,
    Task,
    TaskStatus,
    Tick,
    TickOutcome,
)
from quiv_dist.runtime.handles import HandlerHandle, RunHandle
from quiv_dist.subprocesses import run_subprocess

__all__ = [
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
