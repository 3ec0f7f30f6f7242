"""Swept locations: places in the storage that were deleted because no row named them."""

import datetime as dt

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class SweptLocation(Base):
    """A place that no row may name any more: whoever stored files there came too late."""

    __tablename__ = "swept_locations"

    location: Mapped[str] = mapped_column(String(512), primary_key=True)
    swept_at: Mapped[dt.datetime]
