"""What an instance remembers of the tasks it added: their ordinals, and how to store them again."""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from dataclasses import dataclass, field

from quiv_dist.core.triggers import due_of, next_nominal
from quiv_dist.runtime.options import TaskOptions
from quiv_dist.store.records import NOW, NextTick


@dataclass
class _Pair:
    following: int = 0
    free: list[int] = field(default_factory=list)


class Ordinals:
    """Counts the tasks of one name and handler that an instance adds before it starts.

    A task's id derives from its ordinal, so that every replica means the same tasks. What a
    failed call took is given back: made again, the call means the same task.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: defaultdict[tuple[str, str], _Pair] = defaultdict(_Pair)

    def take(self, name: str, handler: str) -> int:
        """Return the lowest ordinal that is not taken."""
        with self._lock:
            pair = self._pairs[name, handler]
            if pair.free:
                return heapq.heappop(pair.free)
            pair.following += 1
            return pair.following - 1

    def give_back(self, name: str, handler: str, ordinal: int) -> None:
        """Let an ordinal be taken again."""
        with self._lock:
            heapq.heappush(self._pairs[name, handler].free, ordinal)


@dataclass(frozen=True)
class Kept:
    """A task of this process: its definition, and a time of its grid in ms."""

    options: TaskOptions
    anchor_ms: int

    def tick(self, task_id: str, now_ms: int) -> NextTick:
        """Return the tick to store it with again: the next of its schedule, never a past one."""
        trigger = self.options.trigger
        if trigger.kind == "once" or self.anchor_ms > now_ms:
            at = self.anchor_ms
            return NextTick(at, at, at) if at > now_ms else NOW
        nominal = next_nominal(trigger, now_ms, self.anchor_ms, task_id)
        if nominal is None:
            return NOW
        return NextTick(nominal, due_of(trigger, task_id, nominal), self.anchor_ms)
