"""The worker's warning of forget requests that are past their due date: ids and numbers, never their targets."""

import logging
import time

from app.database import Database
from app.logs import NAMED_AT_MOST
from app.telemetry.collector import overdue_requests

REPEAT_SECONDS = 3600.0
"""A warning that says nothing new comes again after so long."""

logger = logging.getLogger(__name__)


class OverdueWarnings:
    """Warns once for every change in what is overdue, and again every hour."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: tuple[int, list[str]] = (0, [])
        self._told_at = 0.0

    def look(self) -> None:
        """Look once, and warn if there is something to say."""
        with self._database.read() as session:
            number, named = overdue_requests(session, NAMED_AT_MOST)
        now = time.monotonic()
        if (number, named) == self._told and now - self._told_at < REPEAT_SECONDS:
            return
        self._told, self._told_at = (number, named), now
        if number:
            logger.warning(
                "Forget requests are past their due date: %s.",
                number,
                extra={"overdue": number, "forget_requests": named},
            )
