"""What an instance is made of: its I/O thread, its roles, and the calls behind the two faces.

``AsyncQuiv`` and ``Quiv`` only name these calls. Everything here runs on the instance's own
event loop; what a call changed is told to this process's listeners on the caller's thread.
"""
