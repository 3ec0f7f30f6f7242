"""Models: named lineages in the registry."""

import datetime as dt
import uuid

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id


class Model(Base):
    """A lineage of versions of one family over one dataset. Numbers below `next_version` are taken."""

    __tablename__ = "models"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    family: Mapped[str] = mapped_column(String(32))
    architecture: Mapped[str] = mapped_column(String(128))
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"), index=True)
    latest_version: Mapped[int]
    next_version: Mapped[int]
    created_at: Mapped[dt.datetime]
