"""Suppressions: commitments to forgotten ids, so that they cannot come back."""

import uuid

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class Suppression(Base):
    """HMAC-SHA256(dataset's suppression key, record id) of a forgotten record."""

    __tablename__ = "suppressions"

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    commitment: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
