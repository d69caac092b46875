"""Values on the wire: msgpack, with tags for what msgpack has no word for.

None, bool, int, float, str, bytes, list and dict are plain msgpack. The other standard types
are msgpack extensions, so that they come back as they were with no annotation. What has fields
(dataclasses, attrs, Structs, pydantic models) travels as a map of its fields and an Enum as its
value; ``core.annotations`` makes the objects again where the handler's annotations say so.
"""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The numbers are stored in Redis: never reuse or renumber one.
_TUPLE, _SET, _FROZENSET, _PAIRS, _BIG_INT = 1, 2, 3, 4, 5
_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL = 10, 11, 12, 13, 14, 15

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_PLAIN = _SCALARS | {list, dict}
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1

_encode = msgspec.msgpack.Encoder().encode
_Ext = msgspec.msgpack.Ext


def pack(value: Any) -> bytes:
    """Return the bytes of a value.

    Raises:
        ConfigurationError: If something in it cannot travel; the message names its type.
    """
    try:
        if all_plain((value,)):
            try:
                return _encode(value)
            except OverflowError:
                pass  # An int beyond 64 bits, somewhere inside.
        return _encode(_tag(value))
    except RecursionError as exc:
        message = f"a {type_name(value)} that is nested too deeply, or contains itself"
        raise ConfigurationError(message) from exc
    except UnicodeEncodeError as exc:
        message = "a str with lone surrogates, which have no UTF-8 form"
        raise ConfigurationError(message) from exc
    except ConfigurationError:
        raise
    except Exception as exc:
        # Iterators, descriptors and serializers of foreign classes run here.
        message = f"a {type_name(value)} that failed to be read: {describe(exc)}"
        raise ConfigurationError(message) from exc


def unpack(data: bytes | memoryview) -> Any:
    """Return the value of bytes made by ``pack``.

    Raises:
        ConfigurationError: If the bytes are malformed, whatever is wrong with them.
    """
    return checked(_decode, data)


def checked(decode: Callable[[Any], Any], data: Any) -> Any:
    """Return ``decode(data)``; whatever it raises becomes a ``ConfigurationError``."""
    try:
        return decode(data)
    except Exception as exc:
        message = f"malformed argument or result bytes: {describe(exc)}"
        raise ConfigurationError(message) from exc


def all_plain(values: Iterable[Any]) -> bool:
    """Return whether plain msgpack brings ``values`` back as they are (but for big ints)."""
    try:
        return _all_plain(values)
    except RecursionError:
        # pack() says what is wrong with it.
        return False


def _all_plain(values: Iterable[Any]) -> bool:
    kinds = set(map(type, values))
    if kinds <= _SCALARS:
        return True
    return kinds <= _PLAIN and all(_is_plain(v) for v in values if type(v) not in _SCALARS)


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return _all_plain(value)
    return _SCALARS.issuperset(map(type, value)) and _all_plain(value.values())


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module unless that is a builtin."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def describe(exc: Exception) -> str:
    """Return the text of an exception, or its class where it has none."""
    return str(exc) or type(exc).__name__


# --- to the wire -------------------------------------------------------------


def _tag(value: Any) -> Any:
    tagger = _TAGGERS.get(type(value))
    return _tag_other(value) if tagger is None else tagger(value)


def _tag_int(value: int) -> Any:
    if _INT64_MIN <= value <= _UINT64_MAX:
        return int(value)
    length = value.bit_length() // 8 + 1  # one more than needed at most, for the sign
    return _Ext(_BIG_INT, value.to_bytes(length, "big", signed=True))


def _tag_list(value: Iterable[Any]) -> list[Any]:
    return [_tag(item) for item in value]


def _tag_dict(value: dict[Any, Any]) -> Any:
    kinds = set(map(type, value))
    if kinds <= _SCALARS and not (int in kinds and any(_is_big(key) for key in value)):
        return {key: _tag(item) for key, item in value.items()}
    return _Ext(_PAIRS, _encode([_tag(part) for pair in value.items() for part in pair]))


def _is_big(key: Any) -> bool:
    return type(key) is int and not _INT64_MIN <= key <= _UINT64_MAX


def _tag_datetime(value: datetime) -> Any:
    text = value.replace(tzinfo=None).isoformat()
    return _Ext(_DATETIME, _encode((text, value.fold, _zone(value))))


def _tag_time(value: time) -> Any:
    text = value.replace(tzinfo=None).isoformat()
    return _Ext(_TIME, _encode((text, value.fold, _zone(value))))


def _zone(value: datetime | time) -> str | int | None:
    """Return a zone's key, an offset in microseconds, or ``None`` for a naive value."""
    zone = value.tzinfo
    if zone is None:
        return None
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return zone.key
    offset = value.utcoffset()
    if offset is None:
        message = f"a {type_name(value)} whose time zone has neither a name nor an offset"
        raise ConfigurationError(message)
    return offset // timedelta(microseconds=1)


def _tag_timedelta(value: timedelta) -> Any:
    return _Ext(_TIMEDELTA, _encode((value.days, value.seconds, value.microseconds)))


_TAGGERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(_SCALARS, lambda value: value),
    int: _tag_int,
    list: _tag_list,
    dict: _tag_dict,
    tuple: lambda value: _Ext(_TUPLE, _encode(_tag_list(value))),
    set: lambda value: _Ext(_SET, _encode(_tag_list(value))),
    frozenset: lambda value: _Ext(_FROZENSET, _encode(_tag_list(value))),
    datetime: _tag_datetime,
    date: lambda value: _Ext(_DATE, value.isoformat().encode()),
    time: _tag_time,
    timedelta: _tag_timedelta,
    UUID: lambda value: _Ext(_UUID, value.bytes),
    Decimal: lambda value: _Ext(_DECIMAL, str(value).encode()),
}

# Left as they are by to_builtins, to be tagged like everywhere else.
_STRUCT_LEAVES = (bytes, datetime, date, time, timedelta, UUID, Decimal)

# Subclasses travel as what they extend. Without an annotation that makes the subclass again,
# check_round_trip() refuses them. datetime comes before date, which it extends.
_BASES: dict[type, Callable[[Any], Any]] = {
    # Not str(): a subclass may answer that with anything.
    str: str.__str__,
    **{base: base for base in (int, float, bytes, tuple, list, dict, set, frozenset)},
    **dict.fromkeys(_STRUCT_LEAVES[1:], lambda value: value),
}


def _tag_other(value: Any) -> Any:
    if isinstance(value, Enum):
        return _tag(value.value)
    if isinstance(value, msgspec.Struct):
        known = _STRUCT_LEAVES
        return _tag(msgspec.to_builtins(value, builtin_types=known, enc_hook=_inside_struct))
    if is_pydantic(type(value)):
        return _tag(value.model_dump(by_alias=True))
    names = record_fields(value)
    if names is not None:
        return {name: _tag(getattr(value, name)) for name in names if hasattr(value, name)}
    for base, reduce in _BASES.items():
        if isinstance(value, base):
            return _TAGGERS[base](reduce(value))
    raise ConfigurationError(f"a {type_name(value)}")


def _inside_struct(value: Any) -> Any:
    # What msgspec does not know; it goes on with what it is given, and tags come after it.
    return value.model_dump(by_alias=True) if is_pydantic(type(value)) else _tag_other(value)


def is_pydantic(kind: type) -> bool:
    """Return whether a class is a pydantic model, without importing pydantic."""
    return hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate")


def record_fields(value: Any) -> tuple[str, ...] | None:
    """Return the attributes a dataclass, attrs, Struct or pydantic object consists of."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if is_pydantic(kind):
        return tuple(kind.model_fields)
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else tuple(item.name for item in attributes)


# --- from the wire -----------------------------------------------------------


def untag(code: int, data: memoryview) -> Any:
    """Return the value of an extension; the ``ext_hook`` of every decoder of this format."""
    untagger = _UNTAGGERS.get(code)
    if untagger is None:
        raise ValueError(f"unknown extension {code}, written by a newer version?")
    return untagger(data)


_decode = msgspec.msgpack.Decoder(ext_hook=untag).decode
_decode_moment = msgspec.msgpack.Decoder(tuple[str, int, str | int | None]).decode
_decode_duration = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


def _untag_pairs(data: memoryview) -> dict[Any, Any]:
    parts = _decode(data)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _untag_datetime(data: memoryview) -> datetime:
    text, fold, zone = _decode_moment(data)
    return datetime.fromisoformat(text).replace(tzinfo=_untag_zone(zone), fold=fold)


def _untag_time(data: memoryview) -> time:
    text, fold, zone = _decode_moment(data)
    return time.fromisoformat(text).replace(tzinfo=_untag_zone(zone), fold=fold)


def _untag_zone(zone: str | int | None) -> tzinfo | None:
    if isinstance(zone, str):
        return ZoneInfo(zone)
    return None if zone is None else timezone(timedelta(microseconds=zone))


def _untag_timedelta(data: memoryview) -> timedelta:
    days, seconds, microseconds = _decode_duration(data)
    return timedelta(days, seconds, microseconds)


_UNTAGGERS: dict[int, Callable[[memoryview], Any]] = {
    _TUPLE: lambda data: tuple(_decode(data)),
    _SET: lambda data: set(_decode(data)),
    _FROZENSET: lambda data: frozenset(_decode(data)),
    _PAIRS: _untag_pairs,
    _BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    _DATETIME: _untag_datetime,
    _DATE: lambda data: date.fromisoformat(str(data, "ascii")),
    _TIME: _untag_time,
    _TIMEDELTA: _untag_timedelta,
    _UUID: lambda data: UUID(bytes=bytes(data)),
    _DECIMAL: lambda data: Decimal(str(data, "ascii")),
}
