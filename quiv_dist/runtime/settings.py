"""What the constructors are given, checked once at the door."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Literal

from quiv_dist.config import (
    DEFAULT_HISTORY_RETENTION_S,
    DEFAULT_NAMESPACE,
    DEFAULT_POOL_SIZE,
    QuivConfig,
    Settings,
    resolve_timezone,
)
from quiv_dist.exceptions import ConfigurationError
from quiv_dist.runtime.engine import ROLES, EngineOptions
from quiv_dist.store.connection import check_url
from quiv_dist.store.keys import check_namespace
from quiv_dist.worker.worker import WorkerOptions


@dataclass(frozen=True)
class InstanceSettings:
    """The settings of an instance; what was not given comes from the environment, late.

    ``declared`` is what ``start()`` does with declared tasks: store them all (``replace``), those
    that are missing (``keep``), or none (``leave``).
    """

    pool_size: int
    history_retention_s: int
    timezone: tzinfo
    redis_url: str | None = None
    namespace: str | None = None
    roles: frozenset[str] = frozenset(ROLES)
    app: str | None = None
    app_version: str | None = None
    worker: WorkerOptions | None = None
    settings: Settings = field(default_factory=Settings)
    declared: Literal["replace", "keep", "leave"] = "replace"

    @classmethod
    def check(
        cls,
        config: QuivConfig | None,
        pool_size: int,
        history_retention_seconds: int,
        timezone: str | tzinfo,
    ) -> InstanceSettings:
        """Return the settings that quiv has too.

        Raises:
            ConfigurationError: a value is not accepted, or ``config`` came with one it holds.

        """
        given: tuple[object, object, object] = (pool_size, history_retention_seconds, timezone)
        if config is not None:
            if given != (DEFAULT_POOL_SIZE, DEFAULT_HISTORY_RETENTION_S, "UTC"):
                msg = (
                    "config and pool_size, history_retention_seconds or timezone are mutually"
                    " exclusive: put them into the QuivConfig"
                )
                raise ConfigurationError(msg)
            given = (config.pool_size, config.history_retention_seconds, config.timezone)
        size, retention, zone = given
        if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
            msg = f"pool_size={size!r} is not accepted: give a whole number, 1 or more"
            raise ConfigurationError(msg)
        if isinstance(retention, bool) or not isinstance(retention, int) or retention < 0:
            msg = (
                f"history_retention_seconds={retention!r} is not accepted: give whole seconds, 0"
                " or more"
            )
            raise ConfigurationError(msg)
        return cls(size, retention, resolve_timezone(zone))

    def distributed(
        self,
        *,
        redis_url: object,
        namespace: str | None,
        roles: Iterable[str] | None,
        app_version: str | None,
    ) -> InstanceSettings:
        """Return the settings with those that only quiv-dist has.

        Raises:
            ConfigurationError: a value is not accepted.

        """
        given: object = roles
        try:
            found = frozenset(ROLES if roles is None else roles)
        except TypeError:
            found = frozenset()
        if isinstance(given, str) or not found or not found <= set(ROLES):
            msg = f"roles={roles!r} is not accepted: give a set of {', '.join(map(repr, ROLES))}"
            raise ConfigurationError(msg)
        if namespace is not None:
            check_namespace(namespace)
        return replace(
            self,
            redis_url=None if redis_url is None else check_url(redis_url),
            namespace=namespace,
            roles=found,
            app_version=app_version,
        )

    def engine_options(self) -> EngineOptions:
        """Return what an engine needs, with the environment filling what was not given."""
        namespace = self.namespace or os.environ.get("QUIV_NAMESPACE") or DEFAULT_NAMESPACE
        url = self.redis_url or os.environ.get("QUIV_REDIS_URL") or None
        return EngineOptions(
            redis_url=None if url is None else check_url(url),
            namespace=check_namespace(namespace),
            roles=self.roles,
            app=self.app,
            app_version=self.app_version,
            worker=self.worker or WorkerOptions(threads=self.pool_size),
            settings=replace(self.settings, history_retention_ms=self.history_retention_s * 1000),
        )
