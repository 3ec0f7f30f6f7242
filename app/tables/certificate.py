"""Certificates: the signed statement for each completed forget request."""

import datetime as dt
import uuid

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class CertificateFrame(Base):
    """What the certificates of one version have in common: kept once, as one version may serve 10,000 requests."""

    __tablename__ = "certificate_frames"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.number"],
            name="fk_certificate_frames_version",
        ),
    )

    model_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text)
    """Canonical JSON of the statement with a gap where each request's own part goes."""


class Certificate(Base):
    """One request's own part, and the signature over the whole statement. Triggers refuse changes."""

    __tablename__ = "certificates"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "version"],
            ["certificate_frames.model_id", "certificate_frames.version"],
            name="fk_certificates_frame",
        ),
    )

    forget_request_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("forget_requests.id"), primary_key=True)
    model_id: Mapped[uuid.UUID]
    version: Mapped[int]
    own: Mapped[str] = mapped_column(Text)
    """Canonical JSON of the request's own part."""
    key_id: Mapped[str] = mapped_column(String(64), ForeignKey("signing_keys.id"))
    signature: Mapped[bytes] = mapped_column(LargeBinary(64))
    leaf: Mapped[int] = mapped_column(BigInteger, ForeignKey("log_leaves.position"), unique=True)
    """Where the transparency log records it."""
    created_at: Mapped[dt.datetime]


class ModelSignature(Base):
    """A version's `model.sig`: its files signed in the OpenSSF model-signing format. Triggers refuse changes."""

    __tablename__ = "model_signatures"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.number"],
            name="fk_model_signatures_version",
        ),
    )

    model_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bundle: Mapped[str] = mapped_column(Text)
    """The file's text."""
