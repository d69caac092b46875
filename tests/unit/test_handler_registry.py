"""The handlers a worker serves."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from quiv_dist.core.codec import encode_arguments
from quiv_dist.exceptions import HandlerRegistrationError
from quiv_dist.worker.registry import HandlerRegistry


def function(a: int, job_id: str) -> None: ...


async def coroutine() -> None: ...


class Jobs:
    def method(self) -> None: ...


def test_a_handler_is_served_under_its_own_name_with_what_is_known_of_it() -> None:
    registry = HandlerRegistry()
    handler = registry.add(function)
    assert handler.name == f"{__name__}:function"
    assert registry.get(handler.name) is handler
    assert handler.func is function
    assert not handler.is_async
    assert handler.injectable == {"job_id"}
    assert handler.executor == "auto"
    assert handler.decoder.decode(encode_arguments((1,), {})) == ((1,), {})


def test_coroutine_functions_are_known_as_such_through_partials_too() -> None:
    registry = HandlerRegistry()
    assert registry.add(coroutine).is_async
    assert registry.add(functools.partial(coroutine), "partial").is_async


def test_names_are_sorted_and_an_unknown_one_is_none() -> None:
    registry = HandlerRegistry()
    registry.add(function, "b")
    registry.add(coroutine, "a")
    assert registry.names() == ["a", "b"]
    assert registry.get("c") is None


def test_the_same_function_again_is_the_same_handler() -> None:
    registry = HandlerRegistry()
    assert registry.add(function) is registry.add(function)
    jobs = Jobs()
    assert registry.add(jobs.method, "m") is registry.add(jobs.method, "m")


def test_another_function_under_a_name_is_refused() -> None:
    registry = HandlerRegistry()
    registry.add(function, "name")
    with pytest.raises(HandlerRegistrationError, match=r"'name' is taken by .*function"):
        registry.add(coroutine, "name")
    known = registry.get("name")
    assert known is not None
    assert known.func is function


def test_a_stated_executor_holds_and_two_different_ones_are_refused() -> None:
    registry = HandlerRegistry()
    registry.add(coroutine)
    assert registry.add(coroutine, executor="isolated").executor == "isolated"
    assert registry.add(coroutine).executor == "isolated"
    with pytest.raises(HandlerRegistrationError, match="'isolated' before"):
        registry.add(coroutine, executor="async")


def test_threads_may_be_needed_by_all_but_what_is_always_on_the_loop() -> None:
    registry = HandlerRegistry()
    seen = []
    registry.add(coroutine, "on the loop", "async")
    seen.append(registry.needs_threads)
    registry.add(coroutine, "as its jobs say")
    seen.append(registry.needs_threads)
    registry.remove("as its jobs say")
    seen.append(registry.needs_threads)
    registry.add(function)
    seen.append(registry.needs_threads)
    assert seen == [False, True, False, True]


def test_what_cannot_be_called_is_refused() -> None:
    nonsense: Any = 42
    with pytest.raises(HandlerRegistrationError, match="42"):
        HandlerRegistry().add(nonsense)


def test_a_lambda_needs_a_name_and_goes_when_it_is_removed() -> None:
    registry = HandlerRegistry()
    with pytest.raises(HandlerRegistrationError, match="give it a name"):
        registry.add(lambda: None)
    registry.add(lambda: None, "pinned")
    registry.remove("pinned")
    registry.remove("pinned")
    assert registry.names() == []
