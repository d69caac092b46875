"""What can be known about a callable without calling it."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def is_async_callable(func: Callable[..., Any]) -> bool:
    """Return whether calling ``func`` gives a coroutine.

    True for coroutine functions, partials and bound methods of them, and objects whose
    ``__call__`` is one. A plain function that happens to return a coroutine cannot be told
    beforehand, so callers also look at what they got back.
    """
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(type(func), "__call__", None)  # noqa: B004 - its kind is asked, not its presence
    )


def callable_name(func: Callable[..., Any]) -> str:
    """Return ``module.qualname`` of a callable, for messages; of its class for an instance."""
    while isinstance(func, functools.partial):
        func = func.func
    named: Any = func if hasattr(func, "__qualname__") else type(func)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"
