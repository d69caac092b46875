"""Every error that quiv-dist raises on purpose.

::

    QuivError
    ├── ConfigurationError            bad input, refused before anything is stored
    │   └── InvalidTimezoneError      a zone name that the tz database does not have
    ├── DatabaseInitializationError   the store cannot be used at all
    │   ├── RedisUnavailableError     Redis did not answer within the command timeout
    │   └── SchemaVersionError        the namespace was written by an unsupported version
    ├── HandlerRegistrationError      a handler or callback that cannot be called
    ├── HandlerNotRegisteredError     no process serves the handler of a job
    ├── TaskNotFoundError
    ├── TaskNotActiveError            the task is paused
    │   └── TaskRunningError          a run of the task is live
    ├── JobNotFoundError
    ├── JobFailedError                a submission's run ended without a value
    ├── JobCancelledError             raised inside a handler that was asked to stop
    ├── SchedulerStoppedError         the instance was shut down
    ├── LeadershipLostError           a write was refused because another node leads
    └── MainLoopUnavailableError      also a RuntimeError
"""

from __future__ import annotations


class QuivError(Exception):
    """Base of every error of this package."""


class ConfigurationError(QuivError):
    """A parameter or setting has a value that is not accepted."""


class InvalidTimezoneError(ConfigurationError):
    """A time zone is neither a known IANA name nor a ``tzinfo``."""


class DatabaseInitializationError(QuivError):
    """The store cannot be opened."""


class RedisUnavailableError(DatabaseInitializationError):
    """Redis could not be reached, or did not answer, within ``command_timeout``.

    Nothing is known about the call that failed: it may have been stored. Every
    call of this package is safe to send again.
    """


class SchemaVersionError(DatabaseInitializationError):
    """The namespace carries a schema stamp that this version does not support."""


class HandlerRegistrationError(QuivError):
    """A handler, or a progress callback, is not callable."""


class HandlerNotRegisteredError(QuivError):
    """No live process serves the handler of a task or job."""


class TaskNotFoundError(QuivError):
    """No task has this id."""


class TaskNotActiveError(QuivError):
    """The operation needs an active task, and this one is paused."""


class TaskRunningError(TaskNotActiveError):
    """A run of the task is live, so the operation would start a second beside it."""


class JobNotFoundError(QuivError):
    """No job has this id, or its history has expired."""


class JobFailedError(QuivError):
    """The run behind a ``RunHandle`` ended failed or cancelled; the message says how."""


class JobCancelledError(QuivError):
    """Raised in a handler, or by its tools, because the job's stop event was set."""


class SchedulerStoppedError(QuivError):
    """The instance was shut down before, or while, the call waited."""


class LeadershipLostError(QuivError):
    """A leader's write was refused: the lease holds another node or a later epoch."""


class MainLoopUnavailableError(QuivError, RuntimeError):
    """No main event loop of the application can be reached from here."""
