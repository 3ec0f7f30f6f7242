"""How long things are kept, by the settings."""

import datetime as dt

from app.settings import Settings


def target_retention(settings: Settings) -> dt.timedelta:
    """Return how long a target's ids outlive the end of their request."""
    return dt.timedelta(days=settings.target_retention_days)


def predecessor_retention(settings: Settings) -> dt.timedelta:
    """Return how long a version stays in quarantine before it is destroyed."""
    return dt.timedelta(days=settings.predecessor_retention_days)
