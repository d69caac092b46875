"""``python -m quiv_dist.cli``: the ``quiv`` command."""

from __future__ import annotations

from quiv_dist.cli import main

main(prog_name="quiv")
