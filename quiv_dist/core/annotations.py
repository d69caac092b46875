"""Making objects again from plain values, as a handler's annotations say.

A converter exists only for annotations that hold a dataclass, attrs class, Struct, Enum,
TypedDict, NamedTuple or pydantic model. Standard types need none: they travel tagged, so an
argument that does not fit its annotation reaches the handler unchanged, as in a plain call.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import sys
import types
import typing
from enum import Enum
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import msgspec

from quiv_dist.core.tags import is_pydantic, pack, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    Convert = Callable[[Any], Any]

_SEQUENCES = (list, tuple, set, frozenset)


class Unresolved:
    """An annotation whose names cannot be found at run time."""

    def __init__(self, text: object) -> None:
        self.text = str(text)


def signature_of(
    func: Callable[..., Any], *, follow_wrapped: bool = True
) -> inspect.Signature | None:
    """Return the signature of a callable, or ``None`` for one that does not tell.

    That of a decorated function is the function's, unless ``follow_wrapped`` is false.
    """
    try:
        return inspect.signature(func, follow_wrapped=follow_wrapped)
    except (ValueError, TypeError):
        return None
    except NameError:
        # From Python 3.14 annotations are evaluated here, and one may name a type that is
        # imported for type checkers only.
        annotationlib: Any = sys.modules["annotationlib"]
        read: Any = inspect.signature
        signature: inspect.Signature = read(
            func,
            follow_wrapped=follow_wrapped,
            annotation_format=annotationlib.Format.FORWARDREF,
        )
        return signature


def globals_of(func: Any) -> dict[str, Any]:
    """Return the names that a callable's annotations are written with."""
    while isinstance(func, functools.partial):
        func = func.func
    func = inspect.unwrap(func)
    if isinstance(func, type):
        return vars(sys.modules[func.__module__]) if func.__module__ in sys.modules else {}
    if not hasattr(func, "__globals__"):
        # A bound method, or an object that can be called.
        func = getattr(func, "__func__", None) or type(func).__call__
    found: dict[str, Any] = getattr(func, "__globals__", {})
    return found


def resolve(annotation: Any, names: dict[str, Any]) -> Any:
    """Return an annotation with its strings evaluated, or ``Unresolved``."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=names)["it"]
    except Exception:  # noqa: BLE001
        # Names behind TYPE_CHECKING, syntax of a newer Python: only this one is lost.
        return Unresolved(annotation)


def converter_for(annotation: Any) -> Convert | None:
    """Return what makes values of ``annotation`` from plain ones; ``None``: nothing to do.

    Converters raise any exception for a value that does not fit, and pass ``None`` through.
    """
    annotation = _unwrapped(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Union or origin is types.UnionType:
        return _union([converter_for(argument) for argument in arguments], arguments)
    if isinstance(origin, type):
        return _generic(origin, arguments)
    return _of_class(annotation) if isinstance(annotation, type) else None


def _unwrapped(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) is typing.Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _union(converters: list[Convert | None], arms: tuple[Any, ...]) -> Convert | None:
    rich = [convert for convert in converters if convert is not None]
    if not rich:
        return None
    has_plain_arm = any(
        convert is None and arm is not type(None)
        for convert, arm in zip(converters, arms, strict=True)
    )

    def convert_union(value: Any) -> Any:
        fitting = []
        failures = []
        for convert in rich:
            try:
                fitting.append(convert(value))
            except Exception as exc:  # noqa: BLE001
                failures.append(exc)
        if len(fitting) > 1:
            # Classes with defaults fit almost anything: the one that would have sent these
            # very bytes is the one that did.
            sent = pack(value)
            fitting.sort(key=lambda made: pack(made) != sent)
        if fitting:
            return fitting[0]
        if has_plain_arm:
            return value
        raise failures[0]

    return _optional(convert_union)


def _generic(origin: type, arguments: tuple[Any, ...]) -> Convert | None:
    if issubclass(origin, tuple) and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return _fixed_tuple([converter_for(argument) for argument in arguments])
    if issubclass(origin, collections.abc.Mapping) and len(arguments) == 2:
        return _mapping(converter_for(arguments[0]), converter_for(arguments[1]))
    if issubclass(origin, collections.abc.Iterable) and arguments:
        element = converter_for(arguments[0])
        if element is not None:
            return _elements(element)
    return _of_class(origin)


def _elements(element: Convert) -> Convert:
    def convert_elements(value: Any) -> Any:
        if type(value) not in _SEQUENCES:
            raise TypeError(f"expected a collection, not a {type_name(value)}")
        return type(value)(map(element, value))

    return _optional(convert_elements)


def _fixed_tuple(positions: list[Convert | None]) -> Convert | None:
    if not any(positions):
        return None

    def convert_tuple(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(positions):
            raise TypeError(f"expected a tuple of {len(positions)}")
        pairs = zip(positions, value, strict=True)
        return tuple(item if convert is None else convert(item) for convert, item in pairs)

    return _optional(convert_tuple)


def _mapping(key: Convert | None, item: Convert | None) -> Convert | None:
    if key is None and item is None:
        return None

    def convert_mapping(value: Any) -> Any:
        _expect_dict(value)
        return {
            (k if key is None else key(k)): (v if item is None else item(v))
            for k, v in value.items()
        }

    return _optional(convert_mapping)


def _expect_dict(value: Any) -> None:
    if type(value) is not dict:
        raise TypeError(f"expected a map of fields, not a {type_name(value)}")


@functools.cache
def _of_class(kind: type) -> Convert | None:
    """Return the converter of a class; cached, so that classes may refer to themselves."""
    if issubclass(kind, Enum):
        return _optional(kind)
    if issubclass(kind, msgspec.Struct):
        return _optional(lambda value: msgspec.convert(value, kind, dec_hook=_inside_struct))
    if is_pydantic(kind):
        validate: Convert = kind.model_validate  # type: ignore[attr-defined]
        return _optional(validate)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        return _optional(_Record(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _optional(_NamedTuple(kind))
    # typing.is_typeddict() does not know the ones of typing_extensions.
    if hasattr(kind, "__total__") and hasattr(kind, "__required_keys__"):
        return _optional(_TypedDict(kind))
    return None


def _inside_struct(kind: type, value: Any) -> Any:
    convert = converter_for(kind)
    return value if convert is None else convert(value)


class _Fields:
    """The converters of a class's fields, found at first use: a field may be of the class."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    @functools.cached_property
    def converters(self) -> dict[str, Convert | None]:
        found: dict[str, Convert | None] = {}
        for base in reversed(getattr(self.kind, "__mro__", (self.kind,))):
            module = sys.modules.get(base.__module__)
            names = {**(vars(module) if module else {}), base.__name__: base}
            for name, annotation in inspect.get_annotations(base).items():
                found[name] = converter_for(resolve(annotation, names))
        return found

    def convert(self, name: str, value: Any) -> Any:
        convert = self.converters.get(name)
        return value if convert is None else convert(value)


class _Record(_Fields):
    """A dataclass or attrs class, made by its constructor."""

    def __call__(self, value: Any) -> Any:
        _expect_dict(value)
        given: dict[str, Any] = {}
        late: dict[str, Any] = {}
        for name, (parameter, in_constructor) in self.parameters.items():
            if name in value:
                target = given if in_constructor else late
                target[parameter] = self.convert(name, value[name])
        made = self.kind(**given)
        for name, item in late.items():
            object.__setattr__(made, name, item)  # frozen classes too
        return made

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[str, bool]]:
        if dataclasses.is_dataclass(self.kind):
            return {f.name: (f.name, f.init) for f in dataclasses.fields(self.kind)}
        return {a.name: (a.alias if a.init else a.name, a.init) for a in self.kind.__attrs_attrs__}


class _NamedTuple(_Fields):
    def __call__(self, value: Any) -> Any:
        if type(value) not in {list, tuple}:
            raise TypeError(f"expected a tuple, not a {type_name(value)}")
        # Longer than the fields is the constructor's error to raise.
        names = (*self.kind._fields, *map(str, range(len(value))))
        return self.kind(*(self.convert(name, v) for name, v in zip(names, value, strict=False)))


class _TypedDict(_Fields):
    def __call__(self, value: Any) -> Any:
        _expect_dict(value)
        missing = self.kind.__required_keys__ - value.keys()
        if missing:
            raise TypeError(f"missing keys {', '.join(sorted(missing))}")
        return {name: self.convert(name, item) for name, item in value.items()}
