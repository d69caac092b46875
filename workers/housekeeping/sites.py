"""HTTP checks. A coroutine handler: a worker has many of them in flight at once."""

from __future__ import annotations

import httpx

from workers.housekeeping.ledger import recorded


class SiteDownError(Exception):
    """A site did not answer as it should; the job fails, and its retries look again."""


async def check_site(url: str, contains: str, timeout_s: float, job_id: str) -> None:
    """Ask for a page.

    Raises:
        SiteDownError: no answer within ``timeout_s`` seconds, not 2xx, or not the text.

    """
    with recorded("check_site", job_id):
        try:
            async with httpx.AsyncClient(timeout=timeout_s, follow_redirects=True) as client:
                answer = await client.get(url)
        except httpx.HTTPError as error:
            msg = f"{url}: {type(error).__name__} {error}".rstrip()
            raise SiteDownError(msg) from error
        if not answer.is_success:
            msg = f"{url}: status {answer.status_code}"
            raise SiteDownError(msg)
        if contains not in answer.text:
            msg = f"{url}: {contains!r} is not on the page"
            raise SiteDownError(msg)
