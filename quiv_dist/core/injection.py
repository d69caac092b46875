"""Which of quiv's values a handler takes: ``job_id``, ``stop_event``, ``progress_hook``.

A handler asks for one by naming a parameter so; ``**kwargs`` takes all three.
"""

from __future__ import annotations

import weakref
from inspect import Parameter
from typing import TYPE_CHECKING, Any, NamedTuple

from quiv_dist.core.annotations import signature_of
from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INJECTABLE = frozenset({"job_id", "stop_event", "progress_hook"})


class _Names(NamedTuple):
    injectable: frozenset[str]
    # Parameters named as before quiv 1.0.
    old: tuple[str, ...]


# Weak, so that what a task has used goes with the task.
_known: weakref.WeakKeyDictionary[Callable[..., Any], _Names] = weakref.WeakKeyDictionary()


def injectable(func: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the values that ``func`` is given beside its arguments."""
    return _names(func).injectable


def check_handler(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse what would keep a handler from getting its values, or its caller from passing one.

    Raises:
        ConfigurationError: If ``func`` declares a parameter by its name from before quiv 1.0,
            which would silently never be filled, or a key of ``kwargs`` is a name that is
            injected, which would silently be overwritten.
    """
    names = _names(func)
    if names.old:
        renames = ", ".join(f"'{name}' to '{name[1:]}'" for name in names.old)
        message = (
            "The handler has parameters named as before quiv 1.0, which are not filled: rename"
            f" {renames} in its signature"
        )
        raise ConfigurationError(message)
    clashes = sorted(names.injectable & kwargs.keys())
    if clashes:
        keys = ", ".join(f"'{name}'" for name in clashes)
        message = (
            f"kwargs has {keys}, which this handler is given by quiv: rename the key, or take"
            " the parameter (and **kwargs, which takes all three) out of its signature"
        )
        raise ConfigurationError(message)


def _names(func: Callable[..., Any]) -> _Names:
    try:
        known = _known.get(func)
        if known is None:
            known = _known[func] = _read_names(func)
    except TypeError:  # unhashable, or no weak references, as with a builtin
        return _read_names(func)
    return known


def _read_names(func: Callable[..., Any]) -> _Names:
    signature = signature_of(func)
    parameters = () if signature is None else tuple(signature.parameters.values())
    collectors = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    named = [parameter for parameter in parameters if parameter.kind not in collectors]
    by_keyword = {p.name for p in named if p.kind is not Parameter.POSITIONAL_ONLY}
    takes_all = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
    old = (p.name for p in named if p.name[0] == "_" and p.name[1:] in INJECTABLE)
    return _Names(INJECTABLE if takes_all else INJECTABLE & by_keyword, tuple(sorted(old)))
