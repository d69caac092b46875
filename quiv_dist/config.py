"""Settings: each default once, each unit in its name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from quiv_dist.exceptions import InvalidTimezoneError

DEFAULT_POOL_SIZE = 10
DEFAULT_HISTORY_RETENTION_S = 86_400
DEFAULT_NAMESPACE = "quiv"


@dataclass(frozen=True)
class QuivConfig:
    """The grouped settings of quiv.

    ``pool_size`` is the number of handler threads, ``history_retention_seconds`` how long a
    finished job can be read, ``timezone`` is for display only.
    """

    pool_size: int = DEFAULT_POOL_SIZE
    history_retention_seconds: int = DEFAULT_HISTORY_RETENTION_S
    timezone: str | tzinfo = "UTC"


@dataclass(frozen=True)
class Settings:
    """What the roles run by. Durations are seconds (``_s``) or milliseconds (``_ms``)."""

    # Store
    command_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    log_bytes: int = 64 * 1024 * 1024
    log_retention_ms: int = 10 * 60 * 1000
    history_retention_ms: int = DEFAULT_HISTORY_RETENTION_S * 1000
    # Leadership
    leader_lease_ms: int = 5_000
    leader_renew_s: float = 1.5
    leader_margin_s: float = 0.5
    standby_look_min_s: float = 0.25
    standby_look_max_s: float = 0.5
    second_look_s: float = 0.03
    stall_s: float = 3.0
    # Dispatch
    batch: int = 200
    look_ahead_ms: int = 1_000
    poll_s: float = 1.0
    # Janitor
    janitor_s: float = 0.5
    purge_s: float = 5.0
    audit_s: float = 30.0
    pending_idle_ms: int = 10_000
    handler_grace_ms: int = 60_000
    pinned_grace_ms: int = 300_000
    presence_silence_ms: int = 3_000
    # Worker
    node_lease_ms: int = 15_000
    job_lease_ms: int = 15_000
    heartbeat_s: float = 5.0
    urgent_heartbeat_s: float = 1.0
    block_ms: int = 1_000
    # Events
    log_check_s: float = 7.0
    # Connection retries
    backoff_first_s: float = 0.05
    backoff_most_s: float = 2.0


def resolve_timezone(value: str | tzinfo | object) -> tzinfo:
    """Return the ``tzinfo`` that ``value`` names.

    Raises:
        InvalidTimezoneError: ``value`` is neither a known IANA name nor a ``tzinfo``.

    """
    if isinstance(value, tzinfo):
        return value
    if not isinstance(value, str):
        msg = f"timezone={value!r} is not accepted: give an IANA name or a tzinfo"
        raise InvalidTimezoneError(msg)
    if value.strip().upper() in {"UTC", "Z", "GMT"}:
        return UTC
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"timezone={value!r} is not a known IANA zone, such as 'UTC' or 'Europe/Paris'"
        raise InvalidTimezoneError(msg) from error
