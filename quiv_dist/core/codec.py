"""Arguments and results as bytes, and the round trip that an argument must survive.

The wire form is in ``core.tags``, the way back through annotations in ``core.annotations``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from quiv_dist.core.annotations import Unresolved, converter_for
from quiv_dist.core.comparison import first_change
from quiv_dist.core.injection import injectable
from quiv_dist.core.parameters import Arguments, Parameters, Target, convert_one, parameters_of
from quiv_dist.core.tags import all_plain, checked, pack, type_name, unpack, untag
from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ArgumentDecoder",
    "Arguments",
    "check_round_trip",
    "decode_arguments",
    "decode_result",
    "encode_arguments",
    "encode_result",
    "plain_json",
]

EVENT_ARGUMENTS_LIMIT_BYTES = 1024

_encode = msgspec.msgpack.Encoder().encode
_decode_arguments = msgspec.msgpack.Decoder(
    tuple[tuple[Any, ...], dict[str, Any]], ext_hook=untag
).decode


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the bytes of arguments, whatever the handler's annotations make of them.

    Raises:
        ConfigurationError: If one cannot travel; the message names it and its type.
    """
    try:
        if all_plain(args) and all_plain(kwargs.values()):
            try:
                # The two outer arrays need no tags, the decoder knows them.
                return _encode((args, kwargs))
            except OverflowError:
                pass  # An int beyond 64 bits, somewhere inside.
        return pack([list(args), kwargs])
    except (ConfigurationError, RecursionError, UnicodeEncodeError):
        for label, value in _labelled(args, kwargs):
            _pack_one(label, value)
        # Each value can travel, so it is a key, which pack() describes.
        return pack([list(args), kwargs])


def decode_arguments(data: bytes) -> Arguments:
    """Return the arguments as plain values: what a reader without the handler sees.

    Raises:
        ConfigurationError: If the bytes are malformed, whatever is wrong with them.
    """
    arguments: Arguments = checked(_decode_arguments, data)
    return arguments


class ArgumentDecoder:
    """Decodes the arguments of one handler, through its annotations.

    These are resolved at the first use, because they may name what the handler's module
    defines after the handler.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self._func = func
        self._parameters: Parameters | None = None

    def decode(self, data: bytes) -> Arguments:
        """Return the arguments as the handler's annotations say.

        Raises:
            ConfigurationError: If the bytes are malformed, or do not fit an annotation.
        """
        args, kwargs = decode_arguments(data)
        parameters = self._parameters
        if parameters is None:
            parameters = self._parameters = parameters_of(self._func)
        return parameters.convert(args, kwargs) if parameters.has_converters else (args, kwargs)


def check_round_trip(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """Return the bytes of arguments after proving that the handler will get them unchanged.

    Raises:
        ConfigurationError: If the arguments do not fit the signature, or one cannot travel or
            would arrive changed. The message names the argument, its type, and the remedy.
    """
    _check_kinds(args, kwargs)
    parameters = parameters_of(func)
    parameters.check_binding(args, kwargs, injectable(func))
    if all_plain(args) and all_plain(kwargs.values()) and not parameters.has_converters:
        return encode_arguments(args, kwargs)
    for label, value, target in parameters.targets(args, kwargs):
        _check_value(label, value, target)
    return encode_arguments(args, kwargs)


def encode_result(value: Any) -> bytes:
    """Return the bytes of a handler's return value.

    Raises:
        ConfigurationError: If it cannot travel; the message names the type.
    """
    try:
        return pack(value)
    except ConfigurationError as exc:
        message = f"The result cannot be stored: it is or holds {exc}. Return plain values"
        raise ConfigurationError(message) from exc


def decode_result(data: bytes, annotation: Any = None) -> Any:
    """Return a result as ``annotation`` says, or as plain values without one.

    Raises:
        ConfigurationError: If the bytes are malformed, or do not fit the annotation.
    """
    value = unpack(data)
    convert = None if annotation is None else converter_for(annotation)
    if convert is None:
        return value
    try:
        return convert(value)
    except Exception as exc:
        message = f"The result does not fit {annotation!r}: {exc}"
        raise ConfigurationError(message) from exc


def plain_json(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, bytes, bool]:
    """Return the JSON texts of ``args`` and ``kwargs`` for events, and whether they are left out.

    They are left out, as ``[]`` and ``{}``, when they exceed 1 KiB together or have no JSON form.
    """
    try:
        texts = _json(args), _json(kwargs)
    except Exception:  # noqa: BLE001 - code of foreign classes
        # What a foreign object raises here says only that it has no JSON form.
        return b"[]", b"{}", True
    if len(texts[0]) + len(texts[1]) > EVENT_ARGUMENTS_LIMIT_BYTES:
        return b"[]", b"{}", True
    return *texts, False


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, NotImplementedError):
        # What msgspec does not know of itself: by way of plain values.
        return msgspec.json.encode(_with_text_keys(unpack(pack(value))))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, (list, tuple)) else value


# --- the round trip ----------------------------------------------------------


def _check_kinds(args: Any, kwargs: Any) -> None:
    if not isinstance(args, tuple):
        raise ConfigurationError(f"args must be a tuple, not a {type_name(args)}")
    if not isinstance(kwargs, dict):
        raise ConfigurationError(f"kwargs must be a dict, not a {type_name(kwargs)}")
    for key in kwargs:
        if type(key) is not str:
            raise ConfigurationError(f"kwargs keys must be str, and {key!r} is {type_name(key)}")


def _labelled(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        *((f"args[{i}]", value) for i, value in enumerate(args)),
        *((f"kwargs[{key!r}]", value) for key, value in kwargs.items()),
    ]


def _pack_one(label: str, value: Any) -> bytes:
    try:
        return pack(value)
    except ConfigurationError as exc:
        message = (
            f"{label} is not supported: it is or holds {exc}. Pass plain values, and make the"
            " object inside the handler"
        )
        raise ConfigurationError(message) from exc


def _check_value(label: str, value: Any, target: Target) -> None:
    named = f"{label} (parameter '{target.name}')" if target.name else label
    arrived = unpack(_pack_one(named, value))
    arrived = convert_one(label, arrived, target)
    change = first_change(value, arrived)
    if change is not None:
        sent, got = change
        message = (
            f"{named} holds a {type_name(sent)} that would arrive as {_article(sent, got)}."
            f" {_remedy(sent, target)}"
        )
        raise ConfigurationError(message)


def _article(sent: Any, got: Any) -> str:
    different_kinds = type(sent) is not type(got)
    return f"a {type_name(got)}" if different_kinds else f"another value, {got!r}"


def _remedy(sent: Any, target: Target) -> str:
    if isinstance(target.annotation, Unresolved):
        return (
            f"The annotation '{target.annotation.text}' cannot be resolved when the program runs:"
            " import its names outside of `if TYPE_CHECKING`, or pass plain values"
        )
    if target.name and target.convert is None and converter_for(type(sent)) is not None:
        return (
            f"Annotate the parameter, as in '{target.name}: {type(sent).__qualname__}', or pass"
            " plain values"
        )
    return "Pass plain values (None, bool, numbers, str, bytes, dates, lists, dicts, tuples, sets)"
