"""The worker role: claims jobs, runs their handlers, settles them.

``registry`` knows the handlers, ``execution`` calls one for a job and judges how it ended,
``executors`` and ``threads`` give it a place to run.
"""
