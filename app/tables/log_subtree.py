"""Hashes of the transparency log's complete subtrees."""

from sqlalchemy import BigInteger, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class LogSubtree(Base):
    """A complete subtree of `2 ** level` leaves, from leaf `place << level` on; leaves themselves are not kept here."""

    __tablename__ = "log_subtrees"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
