"""The event log, as a subscriber reads it, and the envelopes in it and on the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from quiv_dist.core.wire import Envelope, decode_envelope
from quiv_dist.events.cursor import Lost, parse_id
from quiv_dist.models import Event, EventGap
from quiv_dist.store.reads import Reads

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

_KINDS = {kind.value.encode(): kind.value for kind in Event}


class LogState(NamedTuple):
    """The log at one moment: whose it is, and the newest event id of each kind.

    ``incarnation`` is empty while the server does not hold the namespace, as after a flush.
    The ids are exact also for what was trimmed: scripts keep them beside the log.
    """

    incarnation: str
    newest: Mapping[str, str]


class LogReads(Reads):
    """The reads of a partition, and the state of its log."""

    @classmethod
    def over(cls, reads: Reads) -> Self:
        """Return the reads of the same partition over the same connection."""
        return cls(reads.keys, reads._execute)  # noqa: SLF001 - of its own base class

    async def state(self) -> LogState:
        """Return the state of the log.

        The incarnation is read first: of a log replaced in between, entries then carry an
        incarnation that differs from this one, and show it.
        """
        incarnation = await self._execute("HGET", self.keys.meta, "incarnation")
        flat = await self._execute("HGETALL", self.keys.key("logstate"))
        fields = zip(flat[::2], flat[1::2], strict=True)
        # Beside the ids there is bookkeeping, and of a newer version kinds unknown here.
        newest = {_KINDS[name]: value.decode() for name, value in fields if name in _KINDS}
        return LogState(incarnation.decode() if incarnation else "", newest)


def gap_event(lost: Lost, partition: int, incarnation: str, at_ms: int) -> Envelope:
    """Return the EVENTS_LOST that tells of a loss; it is made here and has no id."""
    return Envelope(
        id="",
        prev="",
        type=Event.EVENTS_LOST.value,
        at_ms=at_ms,
        partition=partition,
        log=incarnation,
        gap=EventGap(from_id=lost.from_id, to_id=lost.to_id),
    )


class EnvelopeReader:
    """Decodes events, and says once for each kind that some cannot be."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._told: set[str] = set()

    def decode(self, kind: str, data: bytes) -> Envelope | None:
        """Return the event, or ``None`` for what is no event of this kind and version."""
        why: object
        try:
            envelope = decode_envelope(data)
            parse_id(envelope.id)
            parse_id(envelope.prev)
        except (msgspec.MsgspecError, ValueError) as error:
            why = error
        else:
            if envelope.type == kind:
                return envelope
            why = f"its type is {envelope.type!r}"
        if kind not in self._told:
            self._told.add(kind)
            self._logger.warning(
                "skipped what is no %s event of this version (%s): %.200r; more of it is skipped"
                " silently",
                kind, why, data,
            )  # fmt: skip
        return None
