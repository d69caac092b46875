"""The handlers that a worker serves, by the name their jobs carry."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quiv_dist.core.callables import callable_name, is_async_callable
from quiv_dist.core.codec import ArgumentDecoder
from quiv_dist.core.injection import injectable
from quiv_dist.core.naming import handler_name
from quiv_dist.exceptions import HandlerRegistrationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from quiv_dist.core.codec import Arguments
    from quiv_dist.core.spec import Executor


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that runs jobs, and all that is known about it before one comes."""

    name: str
    func: Callable[..., Any]
    is_async: bool
    decoder: ArgumentDecoder | PinnedArguments
    injectable: frozenset[str]
    executor: Executor = "auto"

    @property
    def may_need_thread(self) -> bool:
        """Whether a job of it may run in a thread: of a function, or an isolated one."""
        return not self.is_async or self.executor != "async"


class PinnedArguments:
    """The arguments of a pinned handler: they stay in this process, whatever they are."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs

    def decode(self, data: bytes) -> Arguments:  # noqa: ARG002 - what is stored is for readers
        """Return the arguments."""
        return self.args, dict(self.kwargs)


class HandlerRegistry:
    """Handlers by name; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[str, Handler] = {}
        self._needs_threads = False

    @property
    def needs_threads(self) -> bool:
        """Whether a job of a handler served here may run in a thread."""
        return self._needs_threads

    def add(
        self, func: Callable[..., Any], name: str | None = None, executor: Executor = "auto"
    ) -> Handler:
        """Register a handler; the same one again changes nothing, or names its executor.

        Args:
            func: A function or coroutine function.
            name: The name its jobs carry; ``module:qualname`` unless given.
            executor: Where jobs run that do not say it themselves.

        Raises:
            HandlerRegistrationError: If ``func`` is not callable or has no name of its own, or
                another function or another executor is registered under the name.
        """
        if not callable(func):
            raise HandlerRegistrationError(f"A handler must be callable, and {func!r} is not")
        name = name or handler_name(func)
        if name is None:
            message = (
                f"{callable_name(func)} has no importable name, so jobs from other processes could"
                " not mean it: make it a function at the top level of a module, or give it a name"
            )
            raise HandlerRegistrationError(message)
        with self._lock:
            known = self._handlers.get(name)
            handler = _new(func, name, executor) if known is None else _again(known, func, executor)
            self._handlers[name] = handler
            self._count_kinds()
        return handler

    def pin(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Register a handler with arguments of its own, or give it others."""
        handler = replace(_new(func, name, "auto"), decoder=PinnedArguments(args, kwargs))
        self.restore(name, handler)

    def remove(self, name: str) -> None:
        """Forget a handler, as when the last task of a pinned one is gone; unknown is ignored."""
        self.restore(name, None)

    def restore(self, name: str, handler: Handler | None) -> None:
        """Put back what ``get`` returned before a change that was not accepted."""
        with self._lock:
            if handler is None:
                self._handlers.pop(name, None)
            else:
                self._handlers[name] = handler
            self._count_kinds()

    def get(self, name: str) -> Handler | None:
        """Return the handler of a name, if it is served here."""
        return self._handlers.get(name)

    def names(self) -> list[str]:
        """Return the names that are served, sorted."""
        with self._lock:
            return sorted(self._handlers)

    def _count_kinds(self) -> None:
        # Kept, because the consumer asks before each claim.
        self._needs_threads = any(handler.may_need_thread for handler in self._handlers.values())


def _new(func: Callable[..., Any], name: str, executor: Executor) -> Handler:
    return Handler(
        name, func, is_async_callable(func), ArgumentDecoder(func), injectable(func), executor
    )


def _again(known: Handler, func: Callable[..., Any], executor: Executor) -> Handler:
    # Equality, because each access makes a bound method anew.
    if known.func is not func and known.func != func:
        message = (
            f"The handler name '{known.name}' is taken by {known.func!r}: {func!r} needs another"
        )
        raise HandlerRegistrationError(message)
    if executor in {"auto", known.executor}:
        return known
    if known.executor != "auto":
        message = (
            f"The handler '{known.name}' was registered with executor={known.executor!r} before,"
            f" and now with {executor!r}"
        )
        raise HandlerRegistrationError(message)
    return replace(known, executor=executor)
