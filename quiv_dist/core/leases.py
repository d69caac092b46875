"""Lease arithmetic: how long a holder may act on a lease it cannot see.

A holder's clock and the server's are not the same clock, so a holder counts from *before* it
sent the renewal, on its monotonic clock, and gives up a margin early. A pause of the process
(SIGSTOP, a garbage collection, a suspended machine) moves the monotonic clock past the window
and ends the trust without anyone having to tell it. The fence in the scripts is what keeps a
mistaken holder harmless; the window is what keeps it quiet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrustWindow:
    """Until when a holder may act. All values are seconds of one monotonic clock."""

    until_s: float

    @classmethod
    def renewed(cls, sent_at_s: float, lease_s: float, margin_s: float) -> TrustWindow:
        """Return the window of a renewal whose request was begun at ``sent_at_s``."""
        return cls(sent_at_s + lease_s - margin_s)

    def holds(self, now_s: float) -> bool:
        """Tell whether the holder may still act."""
        return now_s < self.until_s

    def left_s(self, now_s: float) -> float:
        """Return the seconds that are left, never below zero."""
        return max(0.0, self.until_s - now_s)


CLOSED = TrustWindow(float("-inf"))


def epoch_of(holder: str) -> int:
    """Return the epoch of a holder ``node|epoch``; 0 when there is none."""
    _, _, epoch = holder.rpartition("|")
    return int(epoch) if epoch.isdigit() else 0


def node_of(holder: str) -> str:
    """Return the node of a holder ``node|epoch``."""
    return holder.rpartition("|")[0]
