"""Arguments as bytes: what comes back as it was, what is refused, and how it is said."""

from __future__ import annotations

import dataclasses
import enum
import math
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quiv_dist.core.codec import (
    EVENT_ARGUMENTS_LIMIT_BYTES,
    check_round_trip,
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
    plain_json,
)
from quiv_dist.core.comparison import first_change
from quiv_dist.exceptions import ConfigurationError


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Opaque:
    pass


PARIS = ZoneInfo("Europe/Paris")


def anything(*args: Any, **kwargs: Any) -> None:
    """Accept all arguments, with no annotation that could help."""


def round_trip(value: Any) -> Any:
    args, kwargs = decode_arguments(encode_arguments((value,), {"k": value}))
    assert first_change(args[0], kwargs["k"]) is None
    return args[0]


STANDARD: list[Any] = [
    None,
    True,
    "text",
    b"\x00\xff",
    1.5,
    -0.0,
    math.inf,
    0,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    -(2**64),
    10**400,
    -(10**400),
    (),
    (1, (2, [3, (4,)])),
    [1, (2,), {"a": (3,)}],
    {1, 2},
    {(1, 2), frozenset({"a"})},
    frozenset(),
    {"a": {"b": [()]}},
    {1: "a", None: "b", 2.5: "c", b"d": "e"},
    {(1, 2): "tuple", date(2026, 1, 1): "date", 2**70: "big"},
    datetime.fromisoformat("2026-03-29T01:30:00"),
    datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    date(1, 1, 1),
    time(23, 59, 59, 999999),
    time(1, 2, tzinfo=UTC),
    timedelta(days=-1, microseconds=1),
    timedelta.max,
    UUID(int=2**127 + 1),
    Decimal("1.10"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    Decimal("1E+999"),
]


# By number too: the repr of a set differs between processes.
IDS = [f"{number}-{type(value).__name__}" for number, value in enumerate(STANDARD)]


@pytest.mark.parametrize("value", STANDARD, ids=IDS)
def test_standard_types_come_back_as_they_were_without_annotation(value: Any) -> None:
    assert first_change(value, round_trip(value)) is None
    assert check_round_trip(anything, (value,), {"k": value}) == encode_arguments(
        (value,), {"k": value}
    )


def test_nan_counts_as_equal_to_nan_also_inside_containers() -> None:
    for value in (math.nan, [math.nan], {math.nan}, {"k": (math.nan,)}):
        check_round_trip(anything, (value,), {})


_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
)
_keys = st.text() | st.integers() | st.tuples(st.integers(), st.dates()) | st.uuids()
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(_keys, inner)
        | st.sets(_keys)
        | st.frozensets(_keys)
    ),
    max_leaves=12,
)


@given(st.lists(_values).map(tuple), st.dictionaries(st.text(), _values))
def test_any_nesting_of_standard_types_comes_back(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    got_args, got_kwargs = decode_arguments(encode_arguments(args, kwargs))
    assert first_change(args, got_args) is None
    assert first_change(kwargs, got_kwargs) is None


def test_a_zone_comes_back_as_zone_and_an_offset_as_offset() -> None:
    assert round_trip(datetime(2026, 7, 1, tzinfo=PARIS)).tzinfo is PARIS
    offset = timezone(timedelta(hours=2), "named")
    assert round_trip(datetime(2026, 7, 1, tzinfo=offset)).tzinfo == offset
    assert round_trip(datetime.fromisoformat("2026-07-01")).tzinfo is None


def test_plain_arguments_are_plain_msgpack() -> None:
    data = encode_arguments((42, "x"), {"k": [None, 1.5]})
    assert msgspec.msgpack.decode(data) == [[42, "x"], {"k": [None, 1.5]}]


# --- malformed bytes ---------------------------------------------------------


@given(st.binary())
def test_random_bytes_raise_configuration_error_and_nothing_else(data: bytes) -> None:
    try:
        args, kwargs = decode_arguments(data)
    except ConfigurationError:
        return
    assert isinstance(args, tuple)
    assert isinstance(kwargs, dict)


@given(st.integers(0, 30), st.binary(), st.binary(max_size=3))
def test_malformed_tags_raise_configuration_error_and_nothing_else(
    code: int, body: bytes, tail: bytes
) -> None:
    data = msgspec.msgpack.encode([[msgspec.msgpack.Ext(code, body)], {}]) + tail
    with suppress(ConfigurationError):
        decode_arguments(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x92\x90",
        b"\x92\x80\x80",
        b"\x92\x90\x81\x01\x01",
        b"\x92\x91" * 100_000,
        msgspec.msgpack.encode([[msgspec.msgpack.Ext(99, b"")], {}]),
        msgspec.msgpack.encode(
            [[msgspec.msgpack.Ext(10, msgspec.msgpack.encode(["2026-01-01", 0, "No/Where"]))], {}]
        ),
    ],
)
def test_malformed_bytes_are_a_clear_error(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match="malformed"):
        decode_arguments(data)


def test_tags_nested_beyond_reason_are_a_clear_error() -> None:
    data = b"\x90"
    for _ in range(20_000):
        data = msgspec.msgpack.encode([msgspec.msgpack.Ext(1, data)])
    with pytest.raises(ConfigurationError, match="malformed"):
        decode_arguments(b"\x92" + data + b"\x80")


# --- results and events ------------------------------------------------------


def test_results_come_back_plain_or_as_annotated() -> None:
    assert decode_result(encode_result((1, {2}))) == (1, {2})
    assert decode_result(encode_result(Point(1.0))) == {"x": 1.0, "y": 0.0}
    assert decode_result(encode_result([Point(1.0)]), list[Point]) == [Point(1.0)]
    with pytest.raises(ConfigurationError, match="does not fit"):
        decode_result(encode_result(3), Point)
    with pytest.raises(ConfigurationError, match="malformed"):
        decode_result(b"\xc1")


def test_a_result_that_cannot_travel_names_its_type() -> None:
    with pytest.raises(ConfigurationError, match=r"result cannot be stored.*Opaque"):
        encode_result({"a": Opaque()})


def test_event_arguments_are_plain_json() -> None:
    args, kwargs, omitted = plain_json(
        (1, (2,), Point(1.0), date(2026, 1, 1), Color.PAIR, {(1,): 2}), {"k": Level.LOW}
    )
    expected = [1, [2], {"x": 1.0, "y": 0.0}, "2026-01-01", [1, 2], {"(1,)": 2}]
    assert msgspec.json.decode(args) == expected
    assert msgspec.json.decode(kwargs) == {"k": 1}
    assert not omitted


def test_event_arguments_over_the_limit_are_left_out() -> None:
    fits = "x" * (EVENT_ARGUMENTS_LIMIT_BYTES - len(b'[""]{}'))
    assert plain_json((fits,), {}) == (b'["' + fits.encode() + b'"]', b"{}", False)
    assert plain_json((fits + "x",), {}) == (b"[]", b"{}", True)


def test_event_arguments_without_a_json_form_are_left_out() -> None:
    assert plain_json((Opaque(),), {}) == (b"[]", b"{}", True)
