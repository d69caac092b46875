"""How events reach the application: the registry of listeners and their dispatch.

A listener runs where the application can use it: on its main event loop if there is one, else
on the thread that caused the event or, for events that no call of this process caused, on one
listener thread. ``registry`` knows who listens, ``mainloop`` where, ``dispatch`` calls.
"""
