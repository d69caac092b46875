"""How a worker is to run a job: the part of a task's policies that travels with each job."""

from __future__ import annotations

import functools
from typing import Literal

import msgspec

from quiv_dist.exceptions import ConfigurationError

Executor = Literal["auto", "thread", "async", "isolated"]


class JobSpec(msgspec.Struct, frozen=True, array_like=True):
    """Policies of one job, as of when it was enqueued.

    Stored as an array, so fields are only ever appended, with a default.
    """

    executor: Executor = "auto"
    timeout_ms: int | None = None
    max_retries: int = 0
    retry_backoff_ms: int = 30_000
    retry_backoff_max_ms: int = 3_600_000
    store_result: bool = False

    def encode(self) -> bytes:
        """Return the msgpack form, without trailing defaults: one byte if there is nothing else."""
        return _encode_cached(self)

    @staticmethod
    def decode(data: bytes) -> JobSpec:
        """Return the spec of bytes made by ``encode``; jobs of one task share the object.

        Raises:
            ConfigurationError: If the bytes are malformed.
        """
        return _decode_cached(data)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(JobSpec).decode


@functools.lru_cache(maxsize=1024)
def _encode_cached(spec: JobSpec) -> bytes:
    values = list(msgspec.structs.astuple(spec))
    defaults = list(JobSpec.__struct_defaults__)
    while values and values[-1] == defaults[len(values) - 1]:
        values.pop()
    return _encode(values)


@functools.lru_cache(maxsize=1024)
def _decode_cached(data: bytes) -> JobSpec:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        message = f"malformed job spec: {exc}"
        raise ConfigurationError(message) from exc
