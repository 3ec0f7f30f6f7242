"""Datasets: the training records behind models."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id


class Dataset(Base):
    """A named collection of records. `head_snapshot` is its newest snapshot's number."""

    __tablename__ = "datasets"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    family: Mapped[str] = mapped_column(String(32))
    data_schema: Mapped[dict[str, Any]]
    """What later snapshots must agree with (for a classifier: feature width and classes)."""
    head_snapshot: Mapped[int]
    next_snapshot: Mapped[int]
    suppression_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Keys the commitments in `suppressions`, so that a leaked table cannot be matched against known ids."""
    created_at: Mapped[dt.datetime]
