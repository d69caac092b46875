"""Which of quiv's values a handler takes, and what is refused about them."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from quiv_dist.core.injection import INJECTABLE, check_handler, injectable
from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def none(a: int) -> None: ...


def one(a: int, job_id: str) -> None: ...


async def by_keyword(*, stop_event: Any = None, progress_hook: Any) -> None: ...


def everything(**kwargs: Any) -> None: ...


def collectors(*job_id: str) -> None: ...


def positional_only(job_id: str, /) -> None: ...


class Handler:
    def __call__(self, progress_hook: Any) -> None: ...

    def method(self, job_id: str) -> None: ...


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, job_id: str) -> None: ...


@pytest.mark.parametrize(
    ("func", "names"),
    [
        (none, set()),
        (one, {"job_id"}),
        (by_keyword, {"stop_event", "progress_hook"}),
        (everything, {"job_id", "stop_event", "progress_hook"}),
        (collectors, set()),
        (positional_only, set()),
        (Handler(), {"progress_hook"}),
        (Handler().method, {"job_id"}),
        (Unhashable(), {"job_id"}),
        (functools.partial(one, 1), {"job_id"}),
        (print, set()),
        (dict, set()),
    ],
)
def test_a_handler_takes_the_values_that_its_parameters_name(
    func: Callable[..., Any], names: set[str]
) -> None:
    assert injectable(func) == names
    assert injectable(func) == names, "from the cache"


def test_what_is_known_of_a_handler_does_not_keep_it_alive() -> None:
    def handler(job_id: str) -> None: ...

    assert injectable(handler) == {"job_id"}
    gone = weakref.ref(handler)
    del handler
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", sorted(INJECTABLE))
def test_a_name_from_before_1_0_is_refused_with_the_new_one(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def handler(_{name}=None): ...\ndef many(**_{name}): ...", namespace)
    with pytest.raises(ConfigurationError, match=f"'_{name}' to '{name}'"):
        check_handler(namespace["handler"], {})
    check_handler(namespace["many"], {})


def test_a_kwargs_key_that_is_injected_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'job_id'.*rename the key"):
        check_handler(one, {"job_id": 1})
    with pytest.raises(ConfigurationError, match="'progress_hook', 'stop_event'"):
        check_handler(everything, {"stop_event": 1, "progress_hook": 2, "a": 3})
    check_handler(one, {"stop_event": 1})
