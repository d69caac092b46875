"""Which handlers travel by name, and under which."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quiv_dist.core import naming
from quiv_dist.core.naming import declared_name, handler_name

if TYPE_CHECKING:
    from collections.abc import Callable


def plain() -> None: ...


async def coroutine() -> None: ...


def logged(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


@logged
def wrapped() -> None: ...


@functools.lru_cache
def cached() -> None: ...


class Jobs:
    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    def method(self) -> None: ...

    def __call__(self) -> None: ...


nameless = lambda: None  # noqa: E731


def replaced() -> None: ...


original_of_replaced = replaced


def replaced() -> None: ...  # type: ignore[no-redef]


@pytest.mark.parametrize(
    ("func", "qualname"),
    [
        (plain, "plain"),
        (coroutine, "coroutine"),
        (wrapped, "wrapped"),
        (cached, "cached"),
        (Jobs.static, "Jobs.static"),
        (Jobs, "Jobs"),
    ],
)
def test_what_a_module_holds_travels_by_module_and_qualname(
    func: Callable[..., Any], qualname: str
) -> None:
    assert handler_name(func) == f"{__name__}:{qualname}"


def test_a_builtin_travels_by_name() -> None:
    assert handler_name(time.sleep) == "time:sleep"


def test_a_function_travels_by_the_name_of_the_wrapper_that_took_its_place() -> None:
    inner = wrapped.__wrapped__  # type: ignore[attr-defined]
    assert handler_name(inner) == f"{__name__}:wrapped"


@pytest.mark.parametrize(
    "func",
    [
        nameless,
        lambda: None,
        functools.partial(plain),
        Jobs().method,
        Jobs.of_class,
        Jobs(),
        [].append,
    ],
)
def test_lambdas_methods_partials_and_objects_are_pinned(func: Callable[..., Any]) -> None:
    assert handler_name(func) is None


def test_a_closure_is_pinned() -> None:
    def closure() -> None: ...

    assert handler_name(closure) is None


def test_a_function_whose_name_leads_to_another_is_pinned() -> None:
    assert handler_name(original_of_replaced) is None
    # A wrapper made on the spot: by its name other processes would run the function without it.
    assert handler_name(logged(plain)) is None


def test_a_function_that_its_module_no_longer_holds_is_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    func = plain
    monkeypatch.delattr(sys.modules[__name__], "plain")
    assert handler_name(func) is None
    # While a decorator runs the module does not hold it yet.
    assert declared_name(func) == f"{__name__}:plain"


MAIN = """
from quiv_dist.core.naming import handler_name
def handler(): ...
print(handler_name(handler))
"""


def printed(*command: str, cwd: Path) -> str:
    # Where this package is, whether or not it is installed.
    env = {**os.environ, "PYTHONPATH": str(Path(naming.__file__).parents[2])}
    ran = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=env, check=True, capture_output=True, text=True
    )
    return ran.stdout.strip()


def test_a_function_of_main_travels_under_the_module_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(MAIN)
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(MAIN)
    (package / "mail.py").write_text(MAIN)
    assert printed("jobs.py", cwd=tmp_path) == "jobs:handler"
    assert printed("-m", "jobs", cwd=tmp_path) == "jobs:handler"
    assert printed("-m", "shop.mail", cwd=tmp_path) == "shop.mail:handler"
    assert printed("-m", "shop", cwd=tmp_path) == "shop.__main__:handler"


def test_a_function_of_main_without_an_importable_file_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "v1.2.py").write_text(MAIN)
    elsewhere = tmp_path / "jobs.py"
    elsewhere.write_text(MAIN)
    assert printed("-c", MAIN, cwd=tmp_path) == "None"
    assert printed("v1.2.py", cwd=tmp_path) == "None"
    run_path = f"import runpy; runpy.run_path({str(elsewhere)!r}, run_name='__main__')"
    assert printed("-P", "-c", run_path, cwd=tmp_path) == "None"


def test_a_file_that_another_module_hides_is_pinned(tmp_path: Path) -> None:
    # The name of a frozen module, which is found before any directory is searched.
    (tmp_path / "zipimport.py").write_text(MAIN)
    assert printed("zipimport.py", cwd=tmp_path) == "None"


def test_a_child_process_knows_the_name_its_parent_gave(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        """
import multiprocessing
from quiv_dist.core.naming import handler_name
def handler(): ...
def child(): print(handler_name(handler), flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
"""
    )
    assert printed("jobs.py", cwd=tmp_path) == "jobs:handler"
