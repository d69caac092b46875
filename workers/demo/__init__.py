"""The housekeeping fleet for half a minute, with parts of it killed, and an audit of the outcome.

``python -m workers.demo`` starts everything on this machine and leaves nothing behind.
"""
