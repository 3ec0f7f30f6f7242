"""Sweeps: when the last one began and ended, for all processes together."""

import datetime as dt

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class Sweep(Base):
    """One kind of cleaning. A process that wants to do it takes its turn by changing `begun_at`."""

    __tablename__ = "sweeps"

    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    """`rows`, `litter` or `compaction`; `app.retention.turns` says what each is."""
    due: Mapped[bool]
    """Whether there is anything to do, where that is known: bytes of erased ids to be overwritten."""
    begun_at: Mapped[dt.datetime]
    finished_at: Mapped[dt.datetime | None]
    """NULL while one is under way, or when its process died."""
