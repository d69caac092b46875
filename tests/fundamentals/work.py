"""What the processes of chapter 8 run: a module that each of them imports."""

from __future__ import annotations


def tick() -> None:
    """Do as good as nothing."""
