"""What commands print: aligned tables, details, and JSON, one object a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import click
import msgspec

from quiv_dist.clock import utc_now

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_MOST_CELL = 60


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their headers, or say on standard error that there are none."""
    found = [[cell(text) for text in row] for row in rows]
    if not found:
        click.echo(empty, err=True)
        return
    widths = [max(map(len, column)) for column in zip(headers, *found, strict=True)]
    for row in (headers, *found):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def details(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one a line, without the empty ones."""
    shown = [(name, value) for name, value in fields if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        first, *more = value.splitlines()
        click.echo(f"{name.ljust(width)}  {first}")
        for line in more:
            click.echo(f"{'':{width}}  {line}")


def json_line(value: object) -> None:
    """Print a value as one line of JSON; datetimes are ISO 8601 in UTC."""
    click.echo(msgspec.json.encode(value, enc_hook=repr).decode())


def cell(text: str) -> str:
    """Return a text for one cell: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CELL else line[: _MOST_CELL - 1] + "…"


def moment(at: datetime | None) -> str:
    """Return a time to the second, UTC."""
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%SZ")


def moment_and_distance(at: datetime | None) -> str:
    """Return a time, and how far it is from now by this machine's clock."""
    if at is None:
        return ""
    away_s = (at - utc_now()).total_seconds()
    return f"{moment(at)} ({f'in {span(away_s)}' if away_s >= 0 else f'{span(-away_s)} ago'})"


def span(seconds: float) -> str:
    """Return a duration in its two largest units, or in milliseconds when it is short."""
    if seconds < 1:
        return f"{seconds * 1000:.3g}ms"
    if seconds < 10:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size}{unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts)
