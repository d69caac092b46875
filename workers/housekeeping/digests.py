"""What changed in a directory tree since the last look. A function handler."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from quiv_dist import JobCancelledError
from workers.housekeeping.ledger import recorded

Digests = dict[str, str]


def compare_tree(root: str, state: str, job_id: str, stop_event: threading.Event) -> dict[str, int]:
    """Digest every file below ``root`` and append what changed to ``<state>.changes.jsonl``.

    A change is written down before the digests it was found by, so a worker that dies in
    between has it reported twice and never not at all.

    Returns:
        How many files there are, and how many were added, changed and removed.

    Raises:
        NotADirectoryError: ``root`` is none: a tree that cannot be seen is not an empty one.
        JobCancelledError: the job was asked to stop.

    """
    with recorded("compare_tree", job_id):
        known = Path(f"{state}.json")
        known.parent.mkdir(parents=True, exist_ok=True)
        before: Digests = json.loads(known.read_text("utf-8")) if known.exists() else {}
        after = _digests(Path(root), stop_event)
        changes = {
            "added": sorted(after.keys() - before.keys()),
            "changed": sorted(
                name for name in after.keys() & before.keys() if after[name] != before[name]
            ),
            "removed": sorted(before.keys() - after.keys()),
        }
        if any(changes.values()):
            with Path(f"{state}.changes.jsonl").open("a", encoding="utf-8") as report:
                report.write(json.dumps({"job_id": job_id, **changes}) + "\n")
            fresh = known.with_name(f"{known.name}.{job_id}")
            fresh.write_text(json.dumps(after, indent=0, sort_keys=True), "utf-8")
            fresh.replace(known)
        return {"files": len(after), **{kind: len(names) for kind, names in changes.items()}}


def _digests(root: Path, stop_event: threading.Event) -> Digests:
    if not root.is_dir():
        raise NotADirectoryError(str(root))
    found: Digests = {}
    for directory, _, names in os.walk(root):
        for name in names:
            if stop_event.is_set():
                msg = f"digests of {root} were asked to stop"
                raise JobCancelledError(msg)
            path = Path(directory, name)
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "blake2b").hexdigest()
            except FileNotFoundError:
                # Removed while we looked: it is gone, as if before.
                continue
            found[str(path.relative_to(root))] = digest
    return found
