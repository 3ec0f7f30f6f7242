"""Living through a database that is away for a while."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from app.worker.leases import LeaseLostError

OUTAGE = (OperationalError, InterfaceError)
"""What an unreachable, restarting or overloaded database raises; deadlocks too, which want a second try."""

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0

T = TypeVar("T")
logger = logging.getLogger(__name__)


def through_outages(action: Callable[[], T], lost: threading.Event) -> T:
    """Try until it works, with growing pauses, for as long as the lease lasts.

    Args:
        action: A transaction; safe to repeat when nobody knows whether it was committed.
        lost: Set once the lease must be taken for lost.

    Raises:
        LeaseLostError: The lease ran out first.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except OUTAGE as error:
            logger.warning("The database is away (%s); trying again in %.2g s.", type(error).__name__, pause)
            if lost.wait(pause):
                raise LeaseLostError("the database was away for longer than the lease lasts") from error
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
