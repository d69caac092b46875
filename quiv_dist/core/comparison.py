"""Whether a value has come back from its bytes as it was."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, time
from typing import Any

from quiv_dist.core.tags import pack, record_fields


def first_change(sent: Any, got: Any) -> tuple[Any, Any] | None:
    """Return the innermost pair in which two values differ in type or value, or ``None``.

    NaN equals NaN. An int where an annotation says float is the annotation's, not a change.
    Objects with fields are compared field by field, others by equality or by their bytes.
    """
    kind = type(sent)
    if kind is not type(got):
        return None if kind is int and type(got) is float and sent == got else (sent, got)
    if kind in {list, tuple} or (isinstance(sent, tuple) and hasattr(sent, "_fields")):
        return _change_in_pairs(list(sent), list(got), sent, got)
    if kind is dict:
        return _change_in_pairs(_flat(sent), _flat(got), sent, got)
    if kind in {set, frozenset}:
        return None if _set_form(sent) == _set_form(got) else (sent, got)
    if kind is datetime or kind is time:
        same = sent.isoformat() == got.isoformat() and sent.fold == got.fold
        return None if same else (sent, got)
    names = record_fields(sent)
    if names is not None:
        return _change_in_pairs(_values(sent, names), _values(got, names), sent, got)
    return None if _equal(sent, got) else (sent, got)


def _flat(value: dict[Any, Any]) -> list[Any]:
    return [part for pair in value.items() for part in pair]


def _values(value: Any, names: tuple[str, ...]) -> list[Any]:
    # An attribute that was never set, as with slots, is not set on the other side either.
    return [getattr(value, name, None) for name in names]


def _change_in_pairs(
    sent: list[Any], got: list[Any], whole_sent: Any, whole_got: Any
) -> tuple[Any, Any] | None:
    if len(sent) != len(got):
        return whole_sent, whole_got
    for pair in zip(sent, got, strict=True):
        change = first_change(*pair)
        if change is not None:
            return change
    return None


def _set_form(value: Any) -> tuple[Any, Any]:
    """Return what two equal sets share: the members that equal themselves, and their types."""
    return {item for item in value if item == item}, Counter(map(type, value))  # noqa: PLR0124


def _equal(sent: Any, got: Any) -> bool:
    try:
        if sent == got:
            return True
    except Exception:  # noqa: BLE001 - code of foreign classes
        # Signalling NaN does not compare.
        return pack(sent) == pack(got)
    return pack(sent) == pack(got)
