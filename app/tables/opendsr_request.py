"""OpenDSR requests: a controller's demand in the words of that protocol, and the forget requests it became."""

import datetime as dt
import uuid

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class OpenDsrRequest(Base):
    """One request under the id that the controller gave it. Its body, which names a person, is not kept."""

    __tablename__ = "opendsr_requests"

    subject_request_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    regulation: Mapped[str] = mapped_column(String(16))
    callback_endpoints: Mapped[list[str]]
    """Ids of the webhook endpoints of its `status_callback_urls`."""
    submitted_at: Mapped[dt.datetime]
    """When the person asked the controller."""
    received_at: Mapped[dt.datetime]
