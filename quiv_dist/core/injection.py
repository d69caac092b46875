"""Which of quiv's values a handler takes: ``job_id``, ``stop_event``, ``progress_hook``.

A handler asks for one by naming a parameter so; ``**kwargs`` takes all three.
"""

from __future__ import annotations

import weakref
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from quiv_dist.core.annotations import signature_of
from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INJECTABLE = frozenset({"job_id", "stop_event", "progress_hook"})

# Weak, so that what a task has used goes with the task.
_known: weakref.WeakKeyDictionary[Callable[..., Any], frozenset[str]] = weakref.WeakKeyDictionary()


def injectable(func: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the values that ``func`` is given beside its arguments."""
    try:
        known = _known.get(func)
    except TypeError:  # unhashable
        return _injectable(func)
    if known is None:
        known = _injectable(func)
        try:
            _known[func] = known
        except TypeError:  # a callable that cannot be referred to weakly, such as a builtin
            return known
    return known


def _injectable(func: Callable[..., Any]) -> frozenset[str]:
    found = set()
    for parameter in _parameters(func):
        if parameter.kind is Parameter.VAR_KEYWORD:
            return INJECTABLE
        if parameter.kind in {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}:
            found.add(parameter.name)
    return INJECTABLE & found


def check_handler(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse what would keep a handler from getting its values, or its caller from passing one.

    Raises:
        ConfigurationError: If ``func`` declares a parameter by its name from before quiv 1.0,
            which would silently never be filled, or a key of ``kwargs`` is a name that is
            injected, which would silently be overwritten.
    """
    old = sorted(
        parameter.name
        for parameter in _parameters(func)
        if parameter.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
        and parameter.name.startswith("_")
        and parameter.name[1:] in INJECTABLE
    )
    if old:
        renames = ", ".join(f"'{name}' to '{name[1:]}'" for name in old)
        message = (
            f"The handler has parameters named as before quiv 1.0, which are not filled: rename"
            f" {renames} in its signature"
        )
        raise ConfigurationError(message)
    clashes = sorted(injectable(func) & kwargs.keys())
    if clashes:
        names = ", ".join(f"'{name}'" for name in clashes)
        message = (
            f"kwargs has {names}, which this handler is given by quiv: rename the key, or take"
            " the parameter (and **kwargs, which takes all three) out of its signature"
        )
        raise ConfigurationError(message)


def _parameters(func: Callable[..., Any]) -> tuple[Parameter, ...]:
    signature = signature_of(func)
    return () if signature is None else tuple(signature.parameters.values())
