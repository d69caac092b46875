"""The scheduler role: one node leads, dispatches what is due and cleans up after the dead.

A node is a standby until it holds the leader lease. The ``elector`` takes and renews the lease,
the ``dispatcher`` turns due ticks into jobs, the ``janitor`` takes back the jobs of dead
workers and sweeps; both act only while the elector says that this node may.

Who leads is decided by the lease value ``node|epoch`` in Redis and by nothing else. Every write
of a leader names it, and a script refuses (``FENCED``) one that is not the current value. So a
leader that was paused, cut off or deposed writes nothing, whatever it believes; and a standby
that guesses wrong about a leader's death costs a change of term and no tick.
"""
