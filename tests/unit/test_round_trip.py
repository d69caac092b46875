"""Arguments through a handler's annotations: made again, or refused with a remedy."""

from __future__ import annotations

import dataclasses
import enum
import functools
import gc
import inspect
import weakref
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from quiv_dist.core.codec import (
    ArgumentDecoder,
    check_round_trip,
    decode_arguments,
    encode_arguments,
)
from quiv_dist.core.comparison import first_change
from quiv_dist.core.injection import injectable
from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction as OnlyForTypeCheckers


def anything(*args: Any, **kwargs: Any) -> None:
    """Accept all arguments, with no annotation that could help."""


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@dataclasses.dataclass(frozen=True)
class Tree:
    color: Color
    at: Point | None = None
    children: tuple[Tree, ...] = ()
    when: set[date] = dataclasses.field(default_factory=set)
    size: int = dataclasses.field(init=False, default=0)


class Box(msgspec.Struct, tag="box", rename="camel"):
    wide_side: int
    tags: frozenset[str] = frozenset()


class Pair(NamedTuple):
    left: Point
    right: int


class Options(TypedDict, total=False):
    point: Point
    names: tuple[str, ...]


class Person(pydantic.BaseModel):
    name: str
    born: date
    home: Point


def annotated(
    tree: Tree,
    boxes: list[Box],
    *pairs: Pair,
    options: Options,
    people: dict[Color, Person | None] | None = None,
    level: Level = Level.LOW,
    **points: Point,
) -> None: ...


def test_objects_come_back_through_annotations() -> None:
    tree = Tree(Color.PAIR, Point(1.5), (Tree(Color.RED),), {date(2026, 1, 1)})
    args = (tree, [Box(3, frozenset("a"))], Pair(Point(1.0), 2), Pair(Point(2.0), 3))
    kwargs = {
        "options": {"point": Point(0.0), "names": ("a", "b")},
        "people": {
            Color.RED: Person(name="A", born=date(2000, 1, 1), home=Point(x=1.0)),
            Color.PAIR: None,
        },
        "level": Level.LOW,
        "extra": Point(9.0),
    }
    data = check_round_trip(annotated, args, kwargs)
    got_args, got_kwargs = ArgumentDecoder(annotated).decode(data)
    assert first_change(args, got_args) is None
    assert first_change(kwargs, got_kwargs) is None


def test_a_reader_without_the_handler_sees_plain_values() -> None:
    data = encode_arguments((Point(1.0, 2.0), Color.RED, Box(3)), {})
    args, _ = decode_arguments(data)
    assert args == ({"x": 1.0, "y": 2.0}, "red", {"type": "box", "wideSide": 3, "tags": []})


def test_attrs_classes_come_back_with_private_names_and_late_fields() -> None:
    attrs: Any = pytest.importorskip("attrs")

    @attrs.define
    class Account:
        _balance: int
        owner: Point
        cached: int = attrs.field(init=False, default=1)

    def handler(account: Account) -> None: ...

    handler.__annotations__["account"] = Account
    Account.__annotations__["owner"] = Point
    make: Any = Account
    account = make(balance=3, owner=Point(1.0))
    account.cached = 7
    data = check_round_trip(handler, (account,), {})
    assert ArgumentDecoder(handler).decode(data) == ((account,), {})


def test_a_union_of_classes_comes_back_as_the_one_that_was_sent() -> None:
    @dataclasses.dataclass
    class Other:
        x: float
        z: float = 1.0

    def handler(shape: Any) -> None: ...

    handler.__annotations__["shape"] = Point | Other
    for shape in (Point(1.0), Other(1.0)):
        assert ArgumentDecoder(handler).decode(check_round_trip(handler, (shape,), {}))[0] == (
            shape,
        )


def test_annotations_of_standard_types_convert_nothing() -> None:
    def handler(a: float, b: list[int], c: str = "") -> None: ...

    data = check_round_trip(handler, (1, (2,)), {"c": 3})
    assert ArgumentDecoder(handler).decode(data) == ((1, (2,)), {"c": 3})
    assert type(ArgumentDecoder(handler).decode(data)[0][0]) is int


def test_one_unresolvable_annotation_does_not_spoil_the_others() -> None:
    def handler(point: Point, other: OnlyForTypeCheckers) -> None: ...

    data = check_round_trip(handler, (Point(1.0), "plain"), {})
    assert ArgumentDecoder(handler).decode(data) == ((Point(1.0), "plain"), {})


def test_a_decoded_argument_that_does_not_fit_names_the_parameter() -> None:
    def handler(point: Point) -> None: ...

    data = encode_arguments(({"y": 1.0},), {})
    with pytest.raises(
        ConfigurationError, match=r"args\[0\] does not fit parameter 'point: Point'"
    ):
        ArgumentDecoder(handler).decode(data)


def test_annotations_are_resolved_at_first_use_not_at_registration() -> None:
    namespace: dict[str, Any] = {}
    exec("def handler(it: 'Later'): ...", namespace)
    decoder = ArgumentDecoder(namespace["handler"])
    namespace["Later"] = Point
    assert decoder.decode(encode_arguments((Point(1.0),), {})) == ((Point(1.0),), {})


def test_what_is_known_of_a_handler_does_not_keep_it_alive() -> None:
    def handler(point: Point) -> None: ...

    check_round_trip(handler, (Point(1.0),), {})
    gone = weakref.ref(handler)
    del handler
    gc.collect()
    assert gone() is None


# --- refusals ----------------------------------------------------------------


class Plain:
    pass


class Text(str):
    __slots__ = ()


def refusal(func: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check_round_trip(func, args, kwargs)
    return str(caught.value)


def test_an_unsupported_type_is_named_with_its_argument_and_remedy() -> None:
    def handler(a: Any, b: Any = None) -> None: ...

    text = refusal(handler, 1, b=[Plain()])
    assert "kwargs['b'] (parameter 'b') is not supported" in text
    assert "Plain" in text
    assert "make the object inside the handler" in text
    assert "args[0]" in refusal(handler, 1 + 2j)
    assert "function" in refusal(handler, lambda: 1)


def test_a_class_without_annotation_is_refused_with_the_annotation_as_remedy() -> None:
    def handler(point: Any) -> None: ...

    text = refusal(handler, Point(1.0))
    assert "args[0] (parameter 'point') holds a" in text
    assert "would arrive as a dict" in text
    assert "'point: Point'" in text
    assert "'point: Color'" in refusal(handler, [Color.RED])


def test_an_annotation_only_for_type_checkers_is_told() -> None:
    def handler(it: OnlyForTypeCheckers) -> None: ...

    assert "outside of `if TYPE_CHECKING`" in refusal(handler, Point(1.0))


@pytest.mark.parametrize("value", [Text("a"), Pair(Point(1.0), 1), type("L", (list,), {})()])
def test_subclasses_that_would_arrive_as_their_base_are_refused(value: Any) -> None:
    assert "would arrive as a" in refusal(anything, value)


def test_a_subclass_that_the_annotation_would_cut_off_is_refused() -> None:
    @dataclasses.dataclass
    class Deeper(Point):
        pass

    def handler(points: list[Point]) -> None: ...

    assert "Deeper" in refusal(handler, [Deeper(1.0)])


def test_a_plain_value_that_the_annotation_would_change_is_refused() -> None:
    def handler(color: Color) -> None: ...

    assert "str that would arrive as a" in refusal(handler, "red")


def test_a_constructor_that_changes_its_fields_is_refused() -> None:
    @dataclasses.dataclass
    class Doubling:
        n: int

        def __post_init__(self) -> None:
            self.n *= 2

    def handler(it: Any) -> None: ...

    handler.__annotations__["it"] = Doubling
    assert "another value, 4" in refusal(handler, Doubling(1))


def test_objects_without_equality_are_compared_by_their_fields() -> None:
    @dataclasses.dataclass(eq=False)
    class Opaque:
        n: int

    def handler(it: Any) -> None: ...

    handler.__annotations__["it"] = Opaque
    check_round_trip(handler, (Opaque(1),), {})


def test_a_value_that_contains_itself_and_lone_surrogates_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "contains itself" in refusal(anything, loop)
    assert "surrogates" in refusal(anything, "\ud800")


def test_a_class_whose_code_fails_is_a_refusal_not_a_crash() -> None:
    class Failing(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise OSError("broken")

    assert "failed to be read: broken" in refusal(anything, Failing())


def test_arguments_that_do_not_fit_the_signature_are_refused() -> None:
    def handler(a: Any, *, b: Any) -> None: ...

    assert "missing a required" in refusal(handler, 1)
    assert "too many positional" in refusal(handler, 1, 2, b=1)
    assert "unexpected keyword" in refusal(handler, 1, b=1, c=2)


def many(a: Any, b: Any = 1, *rest: Any, c: Any = 2) -> None: ...


def one_required_by_keyword(a: Any = 1, *, b: Any) -> None: ...


def injected_between(a: Any, job_id: Any, b: Any = 1) -> None: ...


def injected_before_required(stop_event: Any, a: Any) -> None: ...


def only_injected(*, job_id: Any) -> None: ...


def positional_only(a: Any, /, b: Any = 1, **rest: Any) -> None: ...


def positional_only_of_that_name(job_id: Any, /, **rest: Any) -> None: ...


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize(
    "func",
    [
        many,
        one_required_by_keyword,
        injected_between,
        injected_before_required,
        only_injected,
        positional_only,
        positional_only_of_that_name,
        anything,
    ],
)
def test_the_quick_look_at_positional_arguments_agrees_with_the_signature(
    func: Callable[..., Any], count: int
) -> None:
    args = tuple(range(count))
    try:
        inspect.signature(func).bind(*args, **dict.fromkeys(injectable(func)))
    except TypeError:
        refusal(func, *args)
    else:
        check_round_trip(func, args, {})


def test_a_decorator_that_passes_arguments_of_its_own_is_called_as_it_is_written() -> None:
    def function(session: Any, a: int) -> None: ...

    @functools.wraps(function)
    def with_session(*args: Any, **kwargs: Any) -> None:
        function(object(), *args, **kwargs)

    check_round_trip(with_session, (1,), {})


def test_injected_parameters_are_not_the_callers_to_pass() -> None:
    def handler(a: Any, job_id: Any, stop_event: Any = None) -> None: ...

    check_round_trip(handler, (1,), {})
    assert "multiple values for argument 'job_id'" in refusal(handler, 1, 2)


def test_arguments_of_the_wrong_kind_are_refused() -> None:
    wrong: list[Any] = [([1], {}), ((), []), ((), {1: 2})]
    for args, kwargs in wrong:
        with pytest.raises(ConfigurationError, match=r"must be"):
            check_round_trip(anything, args, kwargs)
