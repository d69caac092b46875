"""A fleet that looks after web sites, SQLite databases and directory trees.

``HOUSEKEEPING_CONFIG=housekeeping.toml quiv up workers.housekeeping`` runs it on one machine;
``quiv-scheduler`` and ``quiv-worker`` take the same name. ``example.toml`` shows the file.
Schedules are declared from it when this package is imported, so every process of the fleet
declares the same ones.
"""

from __future__ import annotations

from quiv_dist import Quiv
from workers.housekeeping.backups import back_up
from workers.housekeeping.config import Config, load
from workers.housekeeping.digests import compare_tree
from workers.housekeeping.sites import check_site

quiv = Quiv()


def declare(config: Config) -> None:
    """Declare one schedule for each site, database and tree."""
    for site in config.site:
        quiv.task(
            task_id=f"site:{site.name}",
            task_name=f"site {site.name}",
            kwargs={"url": site.url, "contains": site.contains, "timeout_s": site.timeout_s},
            max_retries=2,
            retry_backoff=min(1.0, site.timeout_s),
            interval=site.every_s,
            cron=site.cron,
        )(check_site)
    for database in config.database:
        quiv.task(
            task_id=f"backup:{database.name}",
            task_name=f"backup {database.name}",
            kwargs={
                "source": str(database.path),
                "directory": str(config.state / "backups" / database.name),
                "keep": database.keep,
                "pause_s": database.pause_s,
            },
            timeout=database.timeout_s,
            max_retries=3,
            retry_backoff=5.0,
            interval=database.every_s,
            cron=database.cron,
        )(back_up)
    for tree in config.tree:
        quiv.task(
            task_id=f"tree:{tree.name}",
            task_name=f"tree {tree.name}",
            kwargs={"root": str(tree.path), "state": str(config.state / "trees" / tree.name)},
            interval=tree.every_s,
            cron=tree.cron,
        )(compare_tree)


declare(load())
