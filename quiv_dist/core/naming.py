"""The name a handler travels by: ``module:qualname``.

Only a module-level function (or static method, or class) has one: every process that imports
the module finds the same code under it. A lambda, closure, bound method or partial has none;
it is *pinned*, and runs only in the process that added it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# A child process of multiprocessing knows its parent's __main__ as __mp_main__.
_MAIN = ("__main__", "__mp_main__")

# Wrappers deeper than this are a cycle.
_MAX_WRAPPERS = 100


def handler_name(func: Callable[..., Any]) -> str | None:
    """Return the name of a handler, or ``None`` if it must be pinned.

    The name is returned only if it leads back to ``func`` now, or to a wrapper of it: were it
    to lead to something else, other processes would run that.
    """
    name = declared_name(func)
    if name is None:
        return None
    found: Any = sys.modules.get(func.__module__)
    for part in func.__qualname__.split("."):
        found = getattr(found, part, None)
    return name if _leads_to(found, func) else None


def declared_name(func: Callable[..., Any]) -> str | None:
    """Return the name of a function that is being decorated, or ``None`` if it can have none.

    For decorators: while they run, the module has not bound the name yet, so that nothing can
    be verified. What the decorator returns must end up under that name.
    """
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or "<" in qualname:
        return None
    # By its name the method would be called without its object.
    if isinstance(func, MethodType):
        return None
    name = _main_name(module) if module in _MAIN else module
    return None if name is None else f"{name}:{qualname}"


def _leads_to(found: Any, func: Callable[..., Any]) -> bool:
    for _ in range(_MAX_WRAPPERS):
        if found is func:
            return True
        if found is None:
            return False
        found = getattr(found, "__wrapped__", None)
    return False


def _main_name(module: str) -> str | None:
    """Return the name under which other processes import what runs here as ``__main__``.

    ``None`` when there is none (an interactive session, ``python -c``, a file in a directory
    that is not importable): under ``__main__`` another process would find other code.
    """
    main = sys.modules.get(module)
    if main is None:
        return None
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in _MAIN:
        return str(spec.name)
    return _name_of_file(main)


def _name_of_file(main: ModuleType) -> str | None:
    file = getattr(main, "__file__", None)
    # A dot would make the import system import a package of the part before it.
    if not file or "." in Path(file).stem:
        return None
    try:
        spec = importlib.util.find_spec(Path(file).stem)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return spec.name if Path(spec.origin).resolve() == Path(file).resolve() else None
