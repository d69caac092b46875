"""What a handler's signature says about the arguments it is called with."""

from __future__ import annotations

import dataclasses
import sys
import weakref
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from quiv_dist.core.annotations import (
    Unresolved,
    converter_for,
    globals_of,
    resolve,
    signature_of,
)
from quiv_dist.core.tags import describe
from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from quiv_dist.core.annotations import Convert

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_POSITIONAL_ONLY = Parameter.POSITIONAL_ONLY
_POSITIONAL = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The parameter that an argument goes to."""

    name: str
    annotation: Any = Parameter.empty
    convert: Convert | None = None


_UNKNOWN = Target("")


class Parameters:
    """The parameters of one handler."""

    def __init__(self, func: Callable[..., Any]) -> None:
        signature, names = signature_of(func), globals_of(func)
        # A decorator may pass arguments of its own to what it wraps, so a call has to fit the
        # decorator's signature; the names and annotations are those of the function.
        self._call_signature = signature_of(func, follow_wrapped=False)
        self._counts: range | None = None
        self._positional: list[Target] = []
        self._by_name: dict[str, Target] = {}
        self._rest = self._other_names = _UNKNOWN
        self.is_resolved = True
        for parameter in () if signature is None else signature.parameters.values():
            self._add(parameter, names)
        targets = (*self._positional, *self._by_name.values(), self._rest, self._other_names)
        self.has_converters = any(target.convert is not None for target in targets)

    def _add(self, parameter: Parameter, names: dict[str, Any]) -> None:
        annotation = parameter.annotation
        if annotation is not Parameter.empty:
            annotation = resolve(annotation, names)
        if isinstance(annotation, Unresolved):
            self.is_resolved = False
        target = Target(parameter.name, annotation, converter_for(annotation))
        if parameter.kind in _POSITIONAL:
            self._positional.append(target)
        if parameter.kind is Parameter.VAR_POSITIONAL:
            self._rest = target
        elif parameter.kind is Parameter.VAR_KEYWORD:
            self._other_names = target
        elif parameter.kind is not Parameter.POSITIONAL_ONLY:
            self._by_name[parameter.name] = target

    def _at(self, index: int) -> Target:
        return self._positional[index] if index < len(self._positional) else self._rest

    def _named(self, name: str) -> Target:
        return self._by_name.get(name, self._other_names)

    def targets(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[str, Any, Target]]:
        """Return each argument's label and value, with the parameter it goes to."""
        return [
            *((f"args[{i}]", value, self._at(i)) for i, value in enumerate(args)),
            *((f"kwargs[{key!r}]", value, self._named(key)) for key, value in kwargs.items()),
        ]

    def convert(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Return decoded arguments as the annotations say."""
        values = [
            convert_one(label, value, target) for label, value, target in self.targets(args, kwargs)
        ]
        return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :], strict=True))

    def check_binding(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], injected: frozenset[str]
    ) -> None:
        """Refuse arguments that the handler could not be called with."""
        signature = self._call_signature
        if signature is None:
            return
        if not kwargs:
            # Binding costs more than all the rest, so what it says is kept for the usual call.
            if self._counts is None:
                self._counts = _positional_counts(signature, injected)
            if len(args) in self._counts:
                return
        try:
            signature.bind(*args, **{**kwargs, **dict.fromkeys(injected)})
        except TypeError as exc:
            message = f"args and kwargs do not fit the handler's signature {signature}: {exc}"
            raise ConfigurationError(message) from None


def _positional_counts(signature: Signature, injected: frozenset[str]) -> range:
    """Return how many positional arguments surely fit with no others but the injected ones."""
    parameters = list(signature.parameters.values())
    at = 0
    # An injected parameter, and what stands behind it, cannot be reached by position.
    while at < len(parameters) and parameters[at].kind in _POSITIONAL:
        if parameters[at].name in injected and parameters[at].kind is not _POSITIONAL_ONLY:
            break
        at += 1
    if any(_is_required(parameter, injected) for parameter in parameters[at:]):
        return range(0)
    return range(sum(_is_required(p, frozenset()) for p in parameters[:at]), at + 1)


def _is_required(parameter: Parameter, injected: frozenset[str]) -> bool:
    return (
        parameter.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
        and parameter.default is Parameter.empty
        and parameter.name not in injected
    )


# Weak, and without a way back to the function, so that a function goes with its last task.
_known: weakref.WeakKeyDictionary[Callable[..., Any], Parameters] = weakref.WeakKeyDictionary()


def parameters_of(func: Callable[..., Any]) -> Parameters:
    """Return the parameters of a handler, with its annotations as they resolve now."""
    try:
        known = _known.get(func)
        if known is None:
            known = Parameters(func)
            # A name that is missing now may be defined further down in the module.
            if known.is_resolved or not _is_being_imported(func):
                _known[func] = known
    except TypeError:  # unhashable, or no weak references
        return Parameters(func)
    return known


def _is_being_imported(func: Callable[..., Any]) -> bool:
    module = sys.modules.get(getattr(func, "__module__", None) or "")
    # Unknown, as for a __main__ that is a script, counts as yes.
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", True))


def convert_one(label: str, value: Any, target: Target) -> Any:
    """Return an argument as its parameter's annotation says.

    Raises:
        ConfigurationError: If it does not fit.
    """
    if target.convert is None:
        return value
    try:
        return target.convert(value)
    except Exception as exc:
        message = (
            f"{label} does not fit parameter '{target.name}: {_shown(target.annotation)}':"
            f" {describe(exc)}"
        )
        raise ConfigurationError(message) from exc


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
