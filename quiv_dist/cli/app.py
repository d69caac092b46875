"""Finding the instance that APP on the command line names: ``module`` or ``module:attr``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple

from quiv_dist.cli.errors import ExitCode, Failure
from quiv_dist.client import AsyncQuiv
from quiv_dist.exceptions import DatabaseInitializationError
from quiv_dist.facade import Quiv


class App(NamedTuple):
    """An application: how it is named, and its instance."""

    name: str
    instance: AsyncQuiv


def load(app: str, app_dir: Path) -> App:
    """Import an application and return its instance.

    Raises:
        Failure: it cannot be imported (code 3), or names no instance (code 2).
        DatabaseInitializationError: a call that it makes while it is imported got no answer.

    """
    name, colon, attribute = app.partition(":")
    if not name or (colon and not attribute) or "/" in name or name.endswith(".py"):
        hint = Path(name).stem or "shop"
        msg = f"APP={app!r} is not accepted: give a module such as {hint!r}, or '{hint}:quiv'"
        raise Failure(msg, ExitCode.USAGE)
    directory = str(app_dir.resolve())
    if directory not in sys.path[:1]:
        sys.path.insert(0, directory)
    module = _import(name, directory)
    if attribute:
        return App(app, _named(module, attribute))
    return _only(module)


def _import(name: str, directory: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _failed(name, error) from error
        msg = f"there is no module {error.name!r} in {directory} or where Python looks for modules"
        raise Failure(msg, ExitCode.APP) from error
    except (Failure, DatabaseInitializationError):
        # A call of it failed for a reason that is not its own: no server is named, or it is away.
        raise
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> Failure:
    cause = (type(error), error, _of_application(error.__traceback__))
    return Failure(f"the application {name!r} cannot be imported", ExitCode.APP, cause)


def _of_application(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this module and of the import system."""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen importlib") and file not in {__file__, importlib.__file__}:
            break
        traceback = traceback.tb_next
    return traceback


def _asynchronous(value: object) -> AsyncQuiv | None:
    if isinstance(value, Quiv):
        return value.asynchronous
    return value if isinstance(value, AsyncQuiv) else None


def _instances(module: ModuleType) -> dict[str, AsyncQuiv]:
    """Return the instances a module has, by the first name of each."""
    found: dict[str, AsyncQuiv] = {}
    for name, value in vars(module).items():
        instance = _asynchronous(value)
        if instance is not None and instance not in found.values():
            found[name] = instance
    return found


def _named(module: ModuleType, attribute: str) -> AsyncQuiv:
    value: object = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    instance = _asynchronous(value)
    if instance is not None:
        return instance
    what = "is not there" if value is None else f"is a {type(value).__name__}"
    msg = f"{module.__name__}:{attribute} {what}, not a Quiv or AsyncQuiv{_choice(module)}"
    raise Failure(msg, ExitCode.USAGE)


def _only(module: ModuleType) -> App:
    found = _instances(module)
    if len(found) == 1:
        ((name, instance),) = found.items()
        return App(f"{module.__name__}:{name}", instance)
    if not found:
        msg = f"module {module.__name__!r} has no Quiv or AsyncQuiv at its top level"
        raise Failure(msg, ExitCode.USAGE)
    msg = f"module {module.__name__!r} has {len(found)} instances{_choice(module)}"
    raise Failure(msg, ExitCode.USAGE)


def _choice(module: ModuleType) -> str:
    names = [f"{module.__name__}:{name}" for name in _instances(module)]
    return f"; name one: {', '.join(names)}" if names else ""
