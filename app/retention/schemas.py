"""What clients send about the end of versions."""

from pydantic import Field

from app.request_body import RequestBody


class DestroyCreate(RequestBody):
    """An order to destroy a quarantined version now, before its retention is over."""

    reason: str = Field(
        min_length=1,
        max_length=1000,
        pattern=r"\S",
        description="Why; it is kept for good, so no personal data.",
    )
