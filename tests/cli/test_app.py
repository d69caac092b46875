"""What APP on the command line may be, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quiv_dist.cli.app import App, load
from quiv_dist.cli.errors import Failure

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of these lines; return its name, which no other test uses."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def module(*lines: str, name: str = f"app_{tmp_path.name}") -> str:
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
        return name

    yield module
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _load(app: str, tmp_path: Path) -> App:
    return load(app, tmp_path)


def _failure(app: str, tmp_path: Path) -> tuple[int, str]:
    with pytest.raises(Failure) as caught:
        load(app, tmp_path)
    return caught.value.exit_code, caught.value.message


def test_a_module_s_only_instance_needs_no_name(write: Write, tmp_path: Path) -> None:
    name = write("from quiv_dist import Quiv", "jobs = Quiv()", "the_same = jobs")
    app = _load(name, tmp_path)
    assert app.name == f"{name}:jobs"
    assert app.instance is sys.modules[name].jobs.asynchronous


def test_an_async_instance_is_as_good(write: Write, tmp_path: Path) -> None:
    name = write("from quiv_dist import AsyncQuiv", "jobs = AsyncQuiv()")
    assert _load(f"{name}:jobs", tmp_path).instance is sys.modules[name].jobs


def test_an_attribute_may_be_dotted(write: Write, tmp_path: Path) -> None:
    name = write("from quiv_dist import Quiv", "class state:", "    jobs = Quiv()")
    app = _load(f"{name}:state.jobs", tmp_path)
    assert app.instance is sys.modules[name].state.jobs.asynchronous


def test_of_several_instances_one_must_be_named(write: Write, tmp_path: Path) -> None:
    name = write("from quiv_dist import Quiv", "mail, shop = Quiv(), Quiv()")
    code, message = _failure(name, tmp_path)
    assert code == 2
    assert message.endswith(f"has 2 instances; name one: {name}:mail, {name}:shop")
    assert _load(f"{name}:shop", tmp_path).instance is sys.modules[name].shop.asynchronous


def test_a_module_without_an_instance_is_refused(write: Write, tmp_path: Path) -> None:
    code, message = _failure(write("answer = 42"), tmp_path)
    assert code == 2
    assert "has no Quiv or AsyncQuiv at its top level" in message


@pytest.mark.parametrize(
    ("attribute", "says"), [("answer", "is a int"), ("absent", "is not there")]
)
def test_an_attribute_that_is_no_instance_is_refused(
    write: Write, tmp_path: Path, attribute: str, says: str
) -> None:
    name = write("from quiv_dist import Quiv", "jobs, answer = Quiv(), 42")
    code, message = _failure(f"{name}:{attribute}", tmp_path)
    assert code == 2
    assert says in message
    assert f"name one: {name}:jobs" in message


@pytest.mark.parametrize("app", ["shop.py", "./shop", "apps/shop.py:quiv", "shop:", ":quiv", ""])
def test_a_file_or_half_a_name_is_refused_with_the_right_form(tmp_path: Path, app: str) -> None:
    code, message = _failure(app, tmp_path)
    assert code == 2
    assert "give a module such as 'shop', or 'shop:quiv'" in message


def test_a_module_that_is_not_there_is_named_with_its_directory(tmp_path: Path) -> None:
    code, message = _failure("no_such_package.jobs", tmp_path)
    assert code == 3
    assert "no module 'no_such_package'" in message
    assert str(tmp_path) in message


def test_a_module_that_misses_another_shows_where(write: Write, tmp_path: Path) -> None:
    name = write("import no_such_package")
    with pytest.raises(Failure) as caught:
        load(name, tmp_path)
    assert caught.value.exit_code == 3
    assert caught.value.cause is not None
    kind, _, traceback = caught.value.cause
    assert kind is ModuleNotFoundError
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_filename == str(tmp_path / f"{name}.py")


def test_what_the_application_declares_wrongly_is_its_failure(write: Write, tmp_path: Path) -> None:
    name = write(
        "from quiv_dist import Quiv", "quiv = Quiv()",
        "@quiv.task(interval=-1)", "def sweep(): ...",
    )  # fmt: skip
    assert _failure(name, tmp_path)[0] == 3
