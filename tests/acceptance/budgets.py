"""What the product promises, in seconds; `docs/guarantees.md` states the same numbers.

A promise of a fraction of a second is held against the median of several events: the machine that
runs the tests has other things to do. Each single event is held against the lease's bound, which
no load excuses.
"""

from __future__ import annotations

from quiv_dist.config import Settings

_SETTINGS = Settings()

LEADER_LEASE_S = _SETTINGS.leader_lease_ms / 1000
JOB_LEASE_S = _SETTINGS.job_lease_ms / 1000

# From a leader's end to the next one's first dispatch.
AFTER_KILL_S = 1.0
AFTER_SIGTERM_S = 0.3
AFTER_SPLIT_S = LEADER_LEASE_S + 1.0

# From a worker's end to the next start of its job.
AFTER_WORKER_KILL_S = 5.0
AFTER_WORKER_SPLIT_S = JOB_LEASE_S + 5.0
