"""Leaves of the transparency log."""

import datetime as dt

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class LogLeaf(Base):
    """One entry, numbered from 0 without gaps. Triggers refuse every change but the next leaf."""

    __tablename__ = "log_leaves"

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[str] = mapped_column(Text)
    """Canonical JSON: these bytes are what the tree hashes."""
    created_at: Mapped[dt.datetime]
