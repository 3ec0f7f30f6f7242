"""Public halves of the service's signing keys, old ones included."""

import datetime as dt
import enum

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, string_enum


class KeyPurpose(enum.StrEnum):
    """What a key signs."""

    CERTIFICATES = "certificates"
    """Certificates and tree heads, by Ed25519."""
    CHECKPOINTS = "checkpoints"
    """Model files in the OpenSSF format, by ECDSA on P-256."""


class SigningKey(Base):
    """A key that has signed something; its private half is never in the database. Triggers refuse changes."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the public key's DER form (SubjectPublicKeyInfo), in hexadecimal."""
    purpose: Mapped[KeyPurpose] = mapped_column(string_enum(KeyPurpose, "purpose"))
    public_key: Mapped[str] = mapped_column(Text)
    """PEM."""
    created_at: Mapped[dt.datetime]
